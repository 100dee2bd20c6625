"""Trying again: a bounded number of times, for what can pass, and as late as the server asks.

obstore tells nothing of an answer's headers, so when a store is too busy one small signed request learns its
`Retry-After` (where the store's credentials can sign a URL; else the wait doubles each time).
"""

from __future__ import annotations

import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from adaptkit.io.http import retry_after
from adaptkit_plugins.storage.objects import faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit_plugins.storage.objects.address import Store

T = TypeVar("T")
TRIES = 6
_FIRST, _LONGEST = 0.2, 30.0  # seconds
_ASKED_LONGEST = 120.0  # a server that asks for more is told to the user as busy


def persist(
    work: Callable[[], T], store: Store, key: str, pause: Callable[[float], None] = time.sleep
) -> T:
    """Do it, and do it again while what fails can pass. The last failure is raised as it is."""
    for attempt in range(1, TRIES + 1):
        try:
            return work()
        except Exception as error:
            if attempt == TRIES or not faults.passing(error):
                raise
            wait = min(_FIRST * 2**attempt, _LONGEST) * random.uniform(0.5, 1.0)  # noqa: S311
            asked = _asked_to_wait(store, key) if faults.status(error) in {429, 503} else None
            if asked is not None and asked > _ASKED_LONGEST:
                raise
        pause(wait if asked is None else asked)
    raise AssertionError("the last try returns or raises")


def _asked_to_wait(store: Store, key: str) -> float | None:
    """What the server's Retry-After is now: 0 when it is no longer busy, None when that cannot be learned."""
    import http.client

    import obstore

    try:
        url = urlsplit(obstore.sign(store, "GET", key, timedelta(seconds=60)))
        secure = url.scheme == "https"
        connection = (http.client.HTTPSConnection if secure else http.client.HTTPConnection)(
            url.netloc, timeout=10
        )
        try:
            connection.request("GET", f"{url.path}?{url.query}", headers={"Range": "bytes=0-0"})
            answer = connection.getresponse()
            return (
                retry_after(answer.headers.get("Retry-After"))
                if answer.status in {429, 503}
                else 0.0
            )
        finally:
            connection.close()
    except Exception:  # noqa: BLE001 - a client that cannot sign, or a server that is gone: wait as usual
        return None
