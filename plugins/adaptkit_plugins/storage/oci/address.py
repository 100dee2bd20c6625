"""Where a repository is: `oci://HOST[:PORT]/REPOSITORY[:TAG]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from adaptkit.errors import StorageError
from adaptkit.io.http.addresses import ip_of, joined

_HOST = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?"
)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Address:
    """A repository of a registry, and a tag in it when the URL names one."""

    url: str
    host: str
    repository: str
    tag: str = ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL; `StorageError` when it names no repository."""
        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        repository, colon, tag = path.partition(":")
        fix = "for example oci://registry.example.org/fleet/naval"
        if "@" in host:  # a password may stand there: not repeated
            raise StorageError(
                "cannot read a place in oci://…",
                why="it holds a user",
                fix=f"docker login HOST, then {fix}",
            )
        if "?" in url or "#" in url:
            raise StorageError(
                "cannot read a place in oci://…",
                why="it holds a '?' or a '#'",
                fix=f"docker login HOST, then {fix}",
            )
        if scheme != "oci" or not _HOST.fullmatch(host) or (colon and not _TAG.fullmatch(tag)):
            raise StorageError(
                f"cannot read the place '{url}'", why="it names no registry", fix=fix
            )
        if repository and not _REPOSITORY.fullmatch(repository):
            raise StorageError(
                f"cannot read the place '{url}'",
                why=f"'{repository}' cannot be a repository: lower-case letters, digits, '.', '_', '-' and '/'",
                fix=fix,
            )
        return cls(url, host, repository, tag)

    @property
    def origin(self) -> str:
        """The registry's URL: plain HTTP only to this machine itself."""
        return f"{'http' if loopback(self.host) else 'https'}://{self.host}"


def loopback(host: str) -> bool:
    """Whether a HOST[:PORT] is this machine itself."""
    name = _name(host)
    if name == "localhost":
        return True
    try:
        from ipaddress import ip_address

        return ip_address(name).is_loopback
    except ValueError:
        return False


def may_be_asked(url: str, origin: str) -> bool:
    """Whether a URL that a registry gave may be followed: HTTPS, or plain HTTP from this machine to itself.

    Never `file:`, and never an address of this link, where clouds hand out credentials.
    """
    parts = urlsplit(joined(url, ""))
    if parts.scheme == "https":
        if (address := ip_of(parts.hostname)) is None:
            return bool(parts.hostname)
        return not address.is_link_local and not (
            address.is_loopback and not loopback(urlsplit(origin).netloc)
        )
    return (
        parts.scheme == "http"
        and loopback(parts.netloc.rpartition("@")[2])
        and loopback(urlsplit(origin).netloc)
    )


def _name(host: str) -> str:
    return (urlsplit(f"//{host}").hostname or "").lower()
