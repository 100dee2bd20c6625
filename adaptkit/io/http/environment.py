"""Environment variables that HTTP libraries read by themselves, checked where a place is opened, by their name."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from ipaddress import ip_address
from urllib.parse import urlsplit

from adaptkit.errors import StorageError
from adaptkit.io.safe_paths import user_path

_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_LONGEST_TOKEN = 16 << 10  # bytes of a file
_SOCKS = {"socks5", "socks5h"}


def check_proxies(url: str) -> None:
    """Refuse a proxy that no request to `url` could go through; its value, which may hold a password, is not shown."""
    for name in (*_PROXIES, *(proxy.lower() for proxy in _PROXIES)):
        value = os.environ.get(name, "")
        if not value:
            continue
        scheme = value.partition("://")[0].lower() if "://" in value else "http"
        if scheme in _SOCKS and find_spec("socksio") is None:
            raise StorageError(
                f"cannot open {url}",
                why=f"{name} names a SOCKS proxy, and the library for it is not installed",
                fix=f"pip install socksio, or unset {name}",
            )
        if scheme not in {"http", "https", *_SOCKS} or not _has_host(value):
            raise StorageError(
                f"cannot open {url}",
                why=f"{name} is not the address of a proxy",
                fix=f"for example {name}=http://proxy.example.org:3128, or unset it",
            )


def check_no_proxy(url: str) -> None:
    """Refuse a list of hosts without a proxy that httpx cannot read; other libraries read more."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = os.environ.get(name, "").split(",")
        if not all(_may_be_host(host.strip(" .*")) for host in hosts if host.strip(" .*")):
            raise StorageError(
                f"cannot open {url}",
                why=f"{name} is not a list of hosts",
                fix=f"for example {name}=localhost,.example.org, or unset it",
            )


def check_certificates(url: str) -> None:
    """Refuse a variable that says where certificates are, and is wrong: no request could be made."""
    import ssl

    file, folder = os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except OSError as error:
            raise StorageError(
                f"cannot open {url}",
                why=f"SSL_CERT_FILE is not a file of certificates ({type(error).__name__})",
                fix="name a PEM file in it, or unset it",
            ) from None
    if folder and not any(user_path(one).is_dir() for one in folder.split(os.pathsep)):
        raise StorageError(
            f"cannot open {url}",
            why="SSL_CERT_DIR is not a folder",
            fix="name a folder of certificates in it, or unset it",
        )


def check_label(url: str, name: str) -> None:
    """Refuse a variable that becomes a part of a host's name, and could not: a region, an account."""
    value = os.environ.get(name, "")
    if value and not _LABEL.fullmatch(value):
        raise StorageError(
            f"cannot open {url}",
            why=f"{name} is {value[:40]!a}, and has to be letters, digits and '-'",
            fix=f"correct {name}, or unset it",
        )


def check_token_file(url: str, name: str, usual: str) -> None:
    """Refuse a file of a token, in the variable `name` or where it `usual`ly is, that cannot be sent in a header."""
    path = user_path(os.environ.get(name) or usual)
    try:
        with path.open("rb") as opened:
            data = opened.read(_LONGEST_TOKEN + 1)
    except OSError:  # none, as for most
        return
    token = data.decode("ascii", errors="replace").strip()
    if len(data) > _LONGEST_TOKEN or not token.isascii() or not token.isprintable():
        raise StorageError(
            f"cannot open {url}",
            why=f"{path} does not hold a token",
            fix=f"hf auth login, or name the right file in {name}",
        )


def check_web_address(url: str, name: str, value: str) -> None:
    """Refuse what is no http(s) address in the variable (or setting) `name`."""
    if not value.startswith(("http://", "https://")) or not _has_host(value):
        raise StorageError(
            f"cannot open {url}",
            why=f"{name} is not a web address",
            fix=f"for example {name}=https://hub.example.org",
        )


def check_whole_number(url: str, name: str) -> None:
    """Refuse a variable that is set and is no whole number."""
    value = os.environ.get(name, "")  # a blank alone is none: libraries fail on it at import
    if value and not (value.strip().isdecimal() and len(value) < 7):
        raise StorageError(
            f"cannot open {url}",
            why=f"{name} is {value[:20]!a}, and has to be a whole number of seconds",
            fix=f"for example {name}=30, or unset it",
        )


def check_secret(url: str, name: str) -> None:
    """Refuse a token that cannot be sent in a header; its value is never shown."""
    value = os.environ.get(name, "").strip()
    if value and not (value.isascii() and value.isprintable() and " " not in value):
        raise StorageError(
            f"cannot open {url}",
            why=f"{name} holds characters that no token has",
            fix=f"copy the token again into {name}",
        )


def _may_be_host(text: str) -> bool:
    """Whether a text can be an entry of NO_PROXY for httpx: a host, a domain or an address, of IPv6 without a network."""
    try:
        ip_address(text)
    except ValueError:
        return not text.startswith("[") and _has_host(text)  # httpx reads no brackets there
    return True


def _has_host(value: str) -> bool:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False
