"""Which errors of a registry are worth another try, and how long it asks to wait."""

from __future__ import annotations

from adaptkit_plugins.storage.oci.errors import Broken, Busy, Expired


def transient(error: Exception) -> bool:
    """Whether a request may be sent again: the registry is busy, or the connection broke."""
    import httpx

    return isinstance(error, Busy | httpx.TransportError)


def upload_transient(error: Exception) -> bool:
    """Whether an upload may be begun again, or go on: it broke off, or the registry has forgotten it."""
    return isinstance(error, Broken | Expired)


def download_transient(error: Exception) -> bool:
    """Whether a download may go on: the connection broke."""
    import httpx

    return isinstance(error, Broken | httpx.HTTPError)


def wait_asked(error: Exception) -> float | None:
    """The seconds that the registry asks to wait; None when it does not say."""
    return error.wait_asked if isinstance(error, Busy | Broken) else None
