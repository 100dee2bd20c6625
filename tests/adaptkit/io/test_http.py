"""adaptkit.io.http.client: the retry policy, and what a Retry-After header means."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from adaptkit.io.http import client as http


class Busy(Exception):
    """A server that is busy, and the seconds it asks to wait."""

    def __init__(self, seconds=None):
        super().__init__(seconds)
        self.seconds = seconds


@pytest.fixture
def pauses(monkeypatch):
    """The waits between tries, in place of sleeping."""
    waits = []
    monkeypatch.setattr(http, "pause", waits.append)
    return waits


def failing(*errors):
    """Work that raises these errors one after the other, then returns how often it was called."""
    left, calls = list(errors), []

    def work():
        calls.append(1)
        if left:
            raise left.pop(0)
        return len(calls)

    return work


def run(work, **more):
    return http.retry(
        work,
        transient=lambda error: isinstance(error, Busy),
        wait_asked=lambda error: error.seconds,
        **more,
    )


def test_work_that_succeeds_is_done_once_and_never_waited_for(pauses):
    assert run(failing()) == 1
    assert pauses == []


def test_a_retry_after_replaces_the_backoff(pauses):
    assert run(failing(Busy(7.0), Busy(0.0), Busy(90.0))) == 4
    assert pauses == [7.0, 0.0, 90.0]


def test_waits_without_retry_after_are_random_below_a_doubling_bound(pauses):
    for _ in range(50):
        run(failing(*[Busy()] * 5))
    by_try = [pauses[i::5] for i in range(5)]
    for bound, waits in zip((0.4, 0.8, 1.6, 3.2, 6.4), by_try, strict=True):
        assert 0 <= min(waits) < max(waits) <= bound
        assert max(waits) > bound / 2


def test_the_last_error_is_raised_itself_after_the_last_try(pauses):
    errors = [Busy() for _ in range(http.POLICY.tries)]
    with pytest.raises(Busy) as caught:
        run(failing(*errors))
    assert caught.value is errors[-1]
    assert len(pauses) == http.POLICY.tries - 1


def test_an_error_that_does_not_pass_is_raised_at_once(pauses):
    with pytest.raises(ValueError, match="never"):
        run(failing(Busy(1.0), ValueError("never")))
    assert pauses == [1.0]


def test_an_interrupt_is_never_tried_again(pauses):
    with pytest.raises(KeyboardInterrupt):
        http.retry(failing(KeyboardInterrupt()), transient=lambda _: True)
    assert pauses == []


def test_a_server_that_asks_for_a_longer_wait_than_anybody_should_is_not_asked_again(pauses):
    with pytest.raises(Busy):
        run(failing(Busy(http.POLICY.longest_retry_after + 1)))
    assert pauses == []


def test_the_time_spent_waiting_is_bounded_in_all(pauses):
    with pytest.raises(Busy):
        run(failing(*[Busy(110.0)] * 9))
    assert pauses == [110.0, 110.0]


def test_the_last_try_does_not_ask_how_long_to_wait(pauses):
    asked = []
    with pytest.raises(Busy):
        http.retry(
            failing(*[Busy()] * 9),
            transient=lambda _: True,
            wait_asked=asked.append,
            policy=http.RetryPolicy(tries=3),
        )
    assert len(asked) == len(pauses) == 2


def test_tries_count_anew_when_the_work_advances(pauses):
    come = []

    def download():
        come.append(1)
        if len(come) < 20:
            raise Busy(0.0)
        return len(come)

    assert run(download, advanced=lambda: len(come)) == 20
    with pytest.raises(Busy):
        run(failing(*[Busy(0.0)] * 20), advanced=lambda: 5)


def test_retry_after_is_read_as_seconds_and_as_a_date():
    date = "Wed, 21 Oct 2065 07:28:00 GMT"
    assert http.retry_after({"Retry-After": "7"}) == 7.0
    assert http.retry_after({"Retry-After": " 0.5 "}) == 0.5
    assert http.retry_after(
        {"Retry-After": date, "Date": "Wed, 21 Oct 2065 07:27:18 GMT"}
    ) == pytest.approx(42.0)
    assert http.retry_after({"Retry-After": date}) > 1e9
    assert http.retry_after({"Retry-After": formatdate(time.time() - 60, usegmt=True)}) == 0.0


@pytest.mark.parametrize(
    "text", ["", "soon", "-1", "nan", "inf", "1e9", "1_0", "9" * 400, "Wed, 99 Oct 2065 07:28 GMT"]
)
def test_a_retry_after_that_is_neither_seconds_nor_a_date_counts_for_nothing(text):
    assert http.retry_after({"Retry-After": text}) is None
    assert http.retry_after({}) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"RateLimit": '"api";r=0;t=243'}, 243.0),
        ({"RateLimit": '"api";r=7;t=243'}, None),
        ({"RateLimit": '"api";r=0;t=243', "Retry-After": "5"}, 5.0),
        ({"RateLimit": "r=0"}, None),
    ],
)
def test_a_rate_limit_with_no_requests_left_is_waited_for(headers, seconds):
    assert http.retry_after(headers) == seconds
