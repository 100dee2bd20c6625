"""adaptkit.cli.output.fit: prose in the width of a terminal; commands, paths and digests stay fit to be copied."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptkit.cli.output.fit import fitted
from adaptkit.cli.output.sink import Output

DIGEST = "sha256:" + "74649eca8c0c" + "0" * 52


@pytest.mark.parametrize(
    ("line", "width", "shown"),
    [
        (
            "error: no strategy called 'tie': known are ties, dare_ties, linear",
            40,
            [
                "error: no strategy called 'tie': known",
                "       are ties, dare_ties, linear",
            ],
        ),
        (
            "  give that, or all of them: adaptkit add fleet --recursive --name-from '{dir}'",
            60,
            [
                "  give that, or all of them:",
                "  adaptkit add fleet --recursive --name-from '{dir}'",
            ],
        ),
        (
            "  when      Several adapters whose signs conflict.",
            36,
            ["  when      Several adapters whose", "            signs conflict."],
        ),
        (f"  digest    {DIGEST}", 60, ["  digest    sha256:74649eca8c0c…"]),
        (f"  digest    {DIGEST}", 90, [f"  digest    {DIGEST}"]),
        ("/a/path/without/a/blank", 10, ["/a/path/without/a/blank"]),
    ],
)
def test_a_line_is_broken_where_it_reads_and_copies_well(line, width, shown):
    assert fitted([line], width) == shown


@given(st.text("ab '…:,é漢-", max_size=80), st.integers(8, 40))
def test_no_word_is_lost_and_what_fits_stays_as_it_is(line, width):
    shown = fitted([line], width)
    assert "".join("".join(shown).split()) == "".join(line.split())
    assert fitted([line], None) == [line]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_what_is_said_below_a_bar_stands_above_it(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("TERM", "xterm")
    out = Output()
    with out.watch("adding", 2) as step:
        step(1)
        with out.watch("hashing", 9, "bytes") as inner:  # no second bar
            inner(9)
        out.warn("the names were those of another tool, and were translated")
        step(1)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "\n").split("\n")
    said = lines.index("warning: the names were those of another tool, and")
    assert lines[said + 1] == "         were translated"
    assert "hashing" not in screen.getvalue()
