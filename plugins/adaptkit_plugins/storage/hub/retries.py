"""Which errors of a Hub are worth another try."""

from __future__ import annotations

from adaptkit.io.http.client import BUSY, retry_after
from adaptkit_plugins.storage.hub.errors import cause, response_of, status_of


def transient(error: Exception) -> bool:
    """Whether it may be gone in a moment: a busy server, or a response that never came."""
    import httpx2

    error = cause(error)
    status = status_of(error)
    if status is not None:
        return status in BUSY
    return isinstance(error, httpx2.TransportError) and not isinstance(
        error, httpx2.UnsupportedProtocol
    )


def wait_asked(error: Exception) -> float | None:
    """The seconds that the Hub asks to wait; None when it does not say."""
    response = response_of(cause(error))
    return None if response is None else retry_after(response.headers)
