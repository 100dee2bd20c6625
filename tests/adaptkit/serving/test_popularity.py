"""What was asked for and what is pinned survives a restart, and a damaged file does not stop one."""

from __future__ import annotations

import json
import re
from itertools import repeat

import pytest
from concurrency import at_once

from adaptkit.serving.popularity import HALVE, Popularity

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


@pytest.fixture
def notes():
    return []


def opened(path, notes, base="tm1:1"):
    return Popularity(path / "serving.json", base, notes.append)


def test_counts_and_pins_survive_a_restart_for_each_base_apart(tmp_path, notes):
    first = opened(tmp_path, notes)
    for digests in ([A], [B], {B: 0.5, C: -0.25}, [B]):
        first.add(digests)
    first.pin(["naval@prod"])
    assert first.top(2) == (B, A)
    first.save()
    again = opened(tmp_path, notes)
    assert again.top(9) == (B, A, C)
    assert again.pinned == ("naval@prod",)
    other = opened(tmp_path, notes, base="tm1:2")
    assert (other.top(9), other.pinned) == ((), ())
    again.pin([])
    again.save()
    assert opened(tmp_path, notes).pinned == ()
    assert notes == []


def test_two_servers_of_one_home_lose_no_counts_of_each_other(tmp_path):
    def server(worker):
        def work():
            mine = Popularity(tmp_path / "serving.json", "tm1:1", print)
            for _ in range(20):
                mine.add([A, B] if worker else [A])
                mine.save()

        return work

    at_once(server(worker) for worker in range(3))
    kept = json.loads((tmp_path / "serving.json").read_text())["bases"]["tm1:1"]["asked"]
    assert kept == {A: 60, B: 40}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "truncated"),
        ('{"format": 2}', r"Expected `int` <= 1"),
        ('{"format": 1, "bases": {"tm1:1": {"asked": {"../x": 1}}}}', "matching regex"),
        (f'{{"format": 1, "bases": {{"tm1:1": {{"asked": {{"{A}": -1}}}}}}}}', ">= 1"),
        ('{"format": 1, "more": 1}', "unknown field `more`"),
        ("[" * 100_000, "recursion|Expected"),
        ("x" * (5 << 20), "more than 4,194,304 bytes"),
    ],
)
def test_a_damaged_file_is_said_and_left_out(tmp_path, notes, content, why):
    (tmp_path / "serving.json").write_text(content)
    found = opened(tmp_path, notes)
    assert (found.top(9), found.pinned) == ((), ())
    assert len(notes) == 1
    assert re.search(why, notes[0])
    assert "is left out" in notes[0]
    found.add([A])
    found.save()
    assert opened(tmp_path, []).top(1) == (A,)


def test_a_home_that_cannot_be_written_is_said_once(tmp_path, notes):
    (tmp_path / "home").write_text("a file where the folder should be")
    found = opened(tmp_path / "home", notes)
    assert "is left out: cannot read" in notes.pop()
    for _ in range(2):
        found.add([A])
        found.save()
    assert len(notes) == 1
    assert "what is popular is not kept: cannot lock" in notes[0]


def test_an_old_favourite_gives_way(tmp_path, notes):
    found = opened(tmp_path, notes)
    for digest, times in ((A, 2 * HALVE), (B, 8)):
        found.add(repeat(digest, times))
    found.save()
    kept = json.loads((tmp_path / "serving.json").read_text())["bases"]["tm1:1"]["asked"]
    assert kept == {A: HALVE, B: 4}
