"""Reading the text files among the files of an artifact, line by line, whatever their size."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOOK = 8192  # bytes; a text has no NUL among its first
_PIECE = 4 << 20  # characters of a line that are read at once
_OVERLAP = 512  # characters read again with the next piece, so that nothing is missed at a cut
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a text file; none of a binary one. A line of many megabytes comes in overlapping pieces."""
    with path.open("rb") as file:
        start = file.read(_LOOK)
    wide = start.startswith(_WIDE)
    if b"\0" in start and not wide:
        return
    with path.open(
        encoding="utf-16" if wide else "utf-8-sig", errors="replace", newline=""
    ) as text:
        number, before = 1, ""
        while piece := text.readline(_PIECE):
            yield number, before + piece
            whole = piece.endswith("\n")
            number, before = (number + 1, "") if whole else (number, piece[-_OVERLAP:])
