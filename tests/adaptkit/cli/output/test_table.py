"""adaptkit.cli.output.table: no broken cell, whatever the width; the exact values in a pipe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptkit.cli.output.table import LONGEST_PIPED, Cell, Table, cells, cut
from adaptkit.errors import NotFound
from adaptkit.types.limits import LONGEST_MESSAGE

TABLE = Table(
    ("VERSION", "METHOD", "CREATED", "MESSAGE"),
    (
        ("naval@10", "lora", Cell("2 h ago", "2026-11-25T10:00:00+01:00"), "terse\nship reports"),
        ("naval@9", "lora", Cell("3 h ago", "2026-11-25T09:00:00+01:00"), "a\tb"),
    ),
    ("METHOD",),
)


def test_a_wide_terminal_shows_every_column():
    assert TABLE.fitted(80) == (
        "VERSION   METHOD  CREATED  MESSAGE\n"
        "naval@10  lora    2 h ago  terse ship reports\n"
        "naval@9   lora    3 h ago  a b"
    )


def test_a_narrow_terminal_drops_columns_then_cuts_the_last():
    assert TABLE.fitted(30) == (
        "VERSION   CREATED  MESSAGE\nnaval@10  2 h ago  terse ship…\nnaval@9   3 h ago  a b"
    )
    assert TABLE.fitted(10) == "VERSION\nnaval@10\nnaval@9"


def test_what_can_be_copied_is_never_cut():
    assert TABLE.fitted(3).splitlines()[1] == "naval@10"


def test_a_pipe_gets_exact_values_between_tabs():
    assert TABLE.piped().splitlines() == [
        "naval@10\tlora\t2026-11-25T10:00:00+01:00\tterse ship reports",
        "naval@9\tlora\t2026-11-25T09:00:00+01:00\ta b",
    ]


def test_rows_are_sorted_by_exact_values_with_numbers_as_numbers():
    assert TABLE.order("version") == [1, 0]
    assert TABLE.order("-version") == [0, 1]
    assert TABLE.order("CREATED") == [1, 0]


def test_columns_come_in_the_order_asked_for():
    assert TABLE.taken([1], ["message", "version"]).piped() == "a b\tnaval@9"


def test_an_unknown_column_lists_the_known_ones():
    with pytest.raises(NotFound, match="no column called 'size': known are"):
        TABLE.order("size")


def test_an_empty_column_is_left_out_on_a_terminal_and_kept_in_a_pipe():
    table = Table(("A", "B", "C"), (("1", "", "3"),))
    assert table.fitted(80) == "A  C\n1  3"
    assert table.piped() == "1\t\t3"


def test_wide_characters_take_two_columns():
    assert cells("艦隊") == 4
    assert cut("艦隊長", 5) == "艦隊…"


def test_a_text_of_any_length_is_cut_in_one_pass():
    """Sign by sign from the end took seven seconds for a message of ten thousand signs."""
    assert cut("é" * 2_000_000, 5) == "éééé…"


def test_a_pipe_gets_what_a_registry_takes_whole_and_more_cut_with_its_length():
    row = ("m" * LONGEST_MESSAGE, "m" * 20_000_000)
    whole, cut_short = Table(("A", "B"), (row,)).piped().split("\t")
    assert whole == row[0]
    assert cut_short == f"{'m' * LONGEST_PIPED}… (20,000,000 characters)"


@given(
    st.lists(
        st.lists(st.text(max_size=30), min_size=3, max_size=3).map(tuple), min_size=1, max_size=5
    ),
    st.integers(20, 120),
)
def test_no_line_is_broken_or_wider_than_the_terminal(rows, width):
    table = Table(("ONE", "TWO", "THREE"), tuple(("id", *row[1:]) for row in rows))
    lines = table.fitted(width).split("\n")
    assert len(lines) == len(rows) + 1
    assert max(map(cells, lines)) <= width
    assert len(table.piped().split("\n")) == len(rows)
