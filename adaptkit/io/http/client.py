"""When to try a request again: one retry policy for every HTTP client, and what `Retry-After` means.

Notable choices:
- exponential backoff with full jitter, so that many clients of one busy server do not return together
  (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)
- a server's `Retry-After` replaces the backoff; one that is longer than the policy's ends the tries, so that
  the error is shown at once
- what is bounded is the number of tries and the time spent waiting, not the time spent working: a large upload that
  breaks after an hour is worth another try
- tries count from where the work last advanced: a download that is resumed and gets on is not given up
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    import tenacity

T = TypeVar("T")
pause = time.sleep
"""How a client waits between tries, in seconds."""
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses of a server that may do in a moment what it does not do now (RFC 9110, 6585, 8470)."""
_NO_REQUESTS = re.compile(r";\s*r=0;\s*t=([0-9]{1,9})\b")
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try; all times in seconds."""

    tries: int = 6
    first_wait: float = 0.4
    """The longest wait before the second try; it doubles with each."""
    longest_wait: float = 30.0
    longest_retry_after: float = 120.0
    """A server that asks for a longer wait is not asked again."""
    longest_total_wait: float = 300.0


POLICY = RetryPolicy()


def no_retry_after(_error: Exception) -> float | None:
    """For errors that carry no `Retry-After`."""
    return None


def retry(
    work: Callable[[], T],
    *,
    transient: Callable[[Exception], bool],
    wait_asked: Callable[[Exception], float | None] = no_retry_after,
    advanced: Callable[[], int] = int,
    policy: RetryPolicy = POLICY,
) -> T:
    """Call `work` until it returns, and wait between tries while its errors are `transient`; else its last error is raised.

    `wait_asked` returns the seconds of the server's `Retry-After` for an error, None without one. `advanced` returns
    how far the work came, such as the bytes of a download; tries count anew when that grows.
    """
    import tenacity

    backoff = tenacity.wait_random_exponential(
        multiplier=policy.first_wait, max=policy.longest_wait
    )
    reached = advanced()

    def worth_it(error: BaseException) -> bool:
        return isinstance(error, Exception) and transient(error)

    def wait(state: tenacity.RetryCallState) -> float:
        nonlocal reached
        if (now := advanced()) > reached:
            reached, state.attempt_number = now, 1
        if state.attempt_number >= policy.tries:
            return 0.0  # `give_up` ends it: no need to ask a server how long it wants us to wait
        error = state.outcome.exception() if state.outcome else None
        asked = wait_asked(error) if isinstance(error, Exception) else None
        return backoff(state) if asked is None else asked

    def give_up(state: tenacity.RetryCallState) -> bool:
        return (
            state.attempt_number >= policy.tries
            or state.upcoming_sleep > policy.longest_retry_after
            or state.idle_for + state.upcoming_sleep > policy.longest_total_wait
        )

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(worth_it),
        wait=wait,
        stop=give_up,
        sleep=pause,
        reraise=True,
    )(work)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a response's `Retry-After` asks for; None without one, or when it holds neither seconds nor a date.

    Without it, a `RateLimit` with no requests left says when there will be some
    (https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers, which the Hub follows).
    A date is counted from the response's own `Date`, where there is one: this machine's clock may be wrong (RFC 9110,
    10.2.3).
    """
    value = headers.get("Retry-After", "").strip()
    if not value and (limited := _NO_REQUESTS.search(headers.get("RateLimit", ""))):
        return float(limited[1])
    if _SECONDS.fullmatch(value):
        return float(value)
    until = _date(value)
    if until is None:
        return None
    now = _date(headers.get("Date", ""))
    return max(0.0, until.timestamp() - (time.time() if now is None else now.timestamp()))


def _date(text: str) -> datetime | None:
    from datetime import UTC
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
