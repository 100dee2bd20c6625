"""What HTTP headers mean, for every client."""

from __future__ import annotations

import time


def retry_after(value: str | None) -> float | None:
    """The seconds of a Retry-After header, which holds seconds or a date; None when it holds neither."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
