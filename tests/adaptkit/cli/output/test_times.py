"""adaptkit.cli.output.times: local times with their zone, and how long ago."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from adaptkit.cli.output import times

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.fixture
def in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_times_are_local_with_their_zone(in_berlin):
    assert times.local("2026-11-25T09:30:00.123456+00:00") == "2026-11-25 10:30 CET"
    assert times.cell("2026-11-25T09:30:00+00:00", NOW).exact == "2026-11-25T10:30:00+01:00"
    assert times.local_and_ago("2026-11-25T09:30:00+00:00", NOW) == "2026-11-25 10:30 CET (2 h ago)"


@pytest.mark.parametrize(
    "recorded",
    ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "tomorrow", "9" * 400, ""],
)
def test_a_time_that_no_clock_here_can_show_is_shown_as_it_is_written(recorded):
    """Whoever made a version elsewhere says when."""
    assert times.local(recorded) == recorded
    assert times.ago(recorded, NOW) == ""
    assert times.cell(recorded, NOW).exact == recorded


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        ("2026-11-25T11:59:30+00:00", "just now"),
        ("2026-11-25T11:15:00+00:00", "45 min ago"),
        ("2026-11-25T09:59:00+00:00", "2 h ago"),
        ("2026-11-22T11:00:00+00:00", "3 d ago"),
        ("2026-08-20T11:00:00+00:00", "3 mo ago"),
        ("2023-11-20T11:00:00+00:00", "3 y ago"),
    ],
)
def test_how_long_ago_is_one_unit(recorded, shown):
    assert times.cell(recorded, NOW).shown == shown


def test_what_is_no_time_is_shown_as_it_is():
    assert times.local("long ago") == "long ago"
    assert times.cell("long ago", NOW).shown == "long ago"
