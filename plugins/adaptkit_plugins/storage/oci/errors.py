"""What goes wrong at a registry, as adaptkit's errors; of a response's body only the registry's error codes are repeated."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adaptkit.errors import StorageError
from adaptkit.io.http.client import POLICY, retry_after
from adaptkit_plugins.storage.oci import auth

if TYPE_CHECKING:
    import httpx

    from adaptkit_plugins.storage.oci.address import Address

_CODE = re.compile(r"[A-Z_]{1,40}")


class Busy(Exception):
    """The registry returned that it is too busy for a request, which may be sent again."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.status_code)
        self.response = response
        self.wait_asked = retry_after(response.headers)


class Broken(Exception):
    """The connection broke, or the server was busy, in something that cannot simply be sent again."""

    def __init__(self, why: str, wait_asked: float | None = None) -> None:
        super().__init__(why)
        self.wait_asked = wait_asked


class Expired(Exception):
    """The registry has forgotten an upload."""


class WrongDigest(Exception):
    """The registry received other bytes than were sent."""


class MissingBlob(Exception):
    """A manifest was refused because the registry does not have a blob that it names, whatever it returned before."""


class TooMuch(StorageError):
    """A response that is larger than any of its kind."""


def failed(doing: str, address: Address, why: str, fix: str = "") -> StorageError:
    """The error "cannot `doing` (such as write) this place"."""
    return StorageError(f"cannot {doing} {address.url}", why=why, fix=fix)


def refused(doing: str, address: Address, response: httpx.Response) -> StorageError:
    """The error for a response whose status is not what was hoped for."""
    host, status = address.host, response.status_code
    named = codes(response)
    shown = f" ({', '.join(named)})" if named else ""
    if status == 401:
        why = (
            "your login is not accepted there"
            if auth.find(host)
            else "it needs a login, and docker's and podman's configuration have none"
        )
        return failed(doing, address, f"{why}{shown}", f"docker login {host}")
    if status == 403:
        return failed(
            doing,
            address,
            f"you may not do that there{shown}",
            f"ask who runs {host} for the right to {address.repository}",
        )
    if status == 404:
        return failed(
            doing,
            address,
            f"it is not there{shown}",
            "check the name; see what is there: adaptkit remote check",
        )
    if status in {429, 503}:
        return failed(
            doing,
            address,
            f"it is too busy ({status}) and stayed so{too_long(retry_after(response.headers))}",
            "try again later; what was sent is kept",
        )
    return failed(
        doing, address, f"{host} returned {status}{shown}", "try again later, or ask who runs it"
    )


def unreachable(doing: str, address: Address, error: Exception) -> StorageError:
    """The error for a request that got no response."""
    import httpx

    why = (
        "no response in time"
        if isinstance(error, httpx.TimeoutException)
        else "cannot connect"
        if isinstance(error, httpx.ConnectError)
        else "the connection broke"
    )
    return failed(doing, address, f"{why} at {address.host}", "check the name and the network")


def too_long(wait_asked: float | None) -> str:
    """`, and asks to wait … seconds`, where that is longer than we do."""
    if wait_asked is None or wait_asked <= POLICY.longest_retry_after:
        return ""
    return f", and asks to wait {wait_asked:,.0f} seconds"


def codes(response: httpx.Response) -> tuple[str, ...]:
    """A registry's own names for what is wrong, such as BLOB_UNKNOWN."""
    try:
        named = [str(error["code"]) for error in response.json()["errors"]]
    except Exception:  # noqa: BLE001 - whatever a server sends in place of an error
        return ()
    return tuple(code for code in named if _CODE.fullmatch(code))[:4]
