"""Which errors of an object store are worth another try, and how long the store asks to wait.

obstore shows nothing of a response's headers, so when a store is too busy one small signed request learns its
`Retry-After` (where the store's credentials can sign a URL; elsewhere the wait grows with each try).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from adaptkit.io.http.client import BUSY, retry, retry_after
from adaptkit_plugins.storage.objects import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit_plugins.storage.objects.address import Store

T = TypeVar("T")
_TOO_BUSY = {429, 503}


def persist(work: Callable[[], T], store: Store, key: str) -> T:
    """Call `work`, again while its errors are transient (`adaptkit.io.http.client.retry`); `key` is what it reads or writes."""
    return retry(
        work,
        transient=transient,
        wait_asked=lambda error: (
            _wait_asked(store, key) if errors.status(error) in _TOO_BUSY else None
        ),
    )


def transient(error: Exception) -> bool:
    """Whether trying again can help: the store is busy, or the connection broke."""
    if isinstance(error, FileNotFoundError) or errors.no_credentials(error):
        return False
    status = errors.status(error)
    return status in BUSY if status is not None else errors.broken(error)


def _wait_asked(store: Store, key: str) -> float | None:
    """What the server's Retry-After is now: 0 when it is no longer busy, None when that cannot be learned."""
    import httpx
    import obstore

    try:
        url = obstore.sign(store, "GET", key, timedelta(seconds=60))
    except Exception:  # noqa: BLE001 - obstore's own kinds, of a client that cannot sign
        return None
    try:
        with httpx.stream("GET", url, headers={"Range": "bytes=0-0"}, timeout=10) as response:
            return retry_after(response.headers) if response.status_code in _TOO_BUSY else 0.0
    except (httpx.HTTPError, httpx.InvalidURL):  # such as of a NO_PROXY that it cannot read
        return None
