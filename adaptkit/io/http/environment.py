"""Environment variables that HTTP libraries read by themselves, checked where a place is opened, by their name."""

from __future__ import annotations

import os
from importlib.util import find_spec
from urllib.parse import urlsplit

from adaptkit.errors import StorageError

_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_SOCKS = {"socks5", "socks5h"}


def check_proxies(url: str) -> None:
    """Refuse a proxy that no request to `url` could go through; its value, which may hold a password, is not shown."""
    for name in (*_PROXIES, *(proxy.lower() for proxy in _PROXIES)):
        value = os.environ.get(name, "")
        if not value:
            continue
        scheme = urlsplit(value if "://" in value else f"http://{value}").scheme
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
    value = os.environ.get(name, "").strip()
    if value and not (value.isdecimal() and len(value) < 7):
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


def _has_host(value: str) -> bool:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False
