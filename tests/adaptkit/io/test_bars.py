"""adaptkit.io.progress.bars: every form of progress says how much of how much, the rate and the time left."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from adaptkit.io.progress.bars import Count, clock_time, log_lines
from adaptkit.io.sizes import size_text


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_count_has_its_total_rate_and_time_left():
    clock = Clock()
    count = Count("merging", 128, "modules", clock)
    clock.now, count.done = 4.0, 32
    assert str(count) == "merging: 32/128 modules, 8/s, 12 s left"
    assert count.share == 0.25


def test_bytes_are_counted_in_units_of_a_thousand():
    clock = Clock()
    count = Count("pulling naval", 200_000_000, "bytes", clock)
    clock.now, count.done = 10.0, 50_000_000
    assert str(count) == "pulling naval: 50.0 MB of 200.0 MB, 5.0 MB/s, 30 s left"


def test_without_a_total_there_is_no_time_left():
    clock = Clock()
    count = Count("looking at hf://a/b", None, "", clock)
    clock.now = 3.0
    assert str(count) == "looking at hf://a/b, 3 s"
    assert count.share is None


def test_sizes_and_times_are_short():
    assert [size_text(n) for n in (0, 999, 1000, 2.5e9, 9e13)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "2.5 GB",
        "90.0 TB",
    ]
    assert [clock_time(n) for n in (0.2, 59, 250, 7500)] == [
        "0 s",
        "59 s",
        "4 min 10 s",
        "2 h 5 min",
    ]


def test_a_log_gets_a_line_every_ten_seconds_and_none_for_short_work():
    clock, lines = Clock(), []
    with log_lines("verifying", 100, "artifacts", write=lines.append, clock=clock) as step:
        for second in range(25):
            clock.now = float(second)
            step(2)
    assert lines == [
        "verifying: 22/100 artifacts, 2.2/s, 35 s left",
        "verifying: 42/100 artifacts, 2.1/s, 28 s left",
    ]


def test_a_terminal_shows_the_count_and_takes_it_away():
    code = (
        "from adaptkit.io.progress.bars import terminal_bar\n"
        "with terminal_bar('merging', 3, 'modules') as step:\n    step(1); step(1)\n"
    )
    main, side = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=side, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(side)
        written = b""
        while True:
            try:
                written += os.read(main, 4096)
            except OSError:
                break
    os.close(main)
    assert process.returncode == 0
    assert b"merging: 2/3 modules" in written
