"""adaptkit.io.text: lines keep their numbers, whatever their length and encoding."""

from __future__ import annotations

import pytest

from adaptkit.io.text import text_lines


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_are_numbered_from_one(encoding, tmp_path):
    (tmp_path / "a").write_bytes("é\r\nb\n\nlast".encode(encoding))
    assert list(text_lines(tmp_path / "a")) == [(1, "é\r\n"), (2, "b\n"), (3, "\n"), (4, "last")]


def test_a_binary_file_and_an_empty_one_have_none(tmp_path):
    (tmp_path / "a").write_bytes(b"PK\0\1 text")
    (tmp_path / "b").write_bytes(b"")
    assert list(text_lines(tmp_path / "a")) == list(text_lines(tmp_path / "b")) == []


def test_an_endless_line_comes_in_pieces_that_overlap(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * (9 << 20) + b"\nnext\n")
    found = list(text_lines(tmp_path / "a"))
    assert [number for number, _ in found] == [1, 1, 1, 2]
    assert max(len(text) for _, text in found) < 5 << 20
    assert found[-1] == (2, "next\n")
