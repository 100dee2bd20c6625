"""Counts as people read them."""

from __future__ import annotations

from adaptkit.io.sizes import count_text


def test_a_count_of_one_has_a_singular_noun():
    assert [count_text(n, "file") for n in (0, 1, 2, 1200)] == [
        "0 files",
        "1 file",
        "2 files",
        "1,200 files",
    ]
