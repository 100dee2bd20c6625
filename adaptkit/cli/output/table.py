"""Tables that copy well.

On a terminal a table fits the width: cells are never broken over lines, the columns that matter
least are left out, and the last one is cut. In a pipe it is one line a row, tab-separated, without
a head and without cuts of what a registry takes. Either way, white space in a cell is one blank, and what would act on a
terminal is visible.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptkit.cli.shell.inert import LONGEST_CELL, inert
from adaptkit.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = "  "
LONGEST_PIPED = 100_000
"""Characters of a cell in a pipe: more than any text that a registry takes, which a damaged one may hold."""
_WHITE = re.compile("[ \t\n]+")
_NARROWEST = 8  # of the last column, before another is left out


@dataclass(frozen=True, slots=True)
class Cell:
    """What a person reads, and the exact value for pipes and for sorting."""

    shown: str
    exact: str


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name; `drop` names those to leave out on a narrow terminal, the first one first."""

    head: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    drop: tuple[str, ...] = ()

    def order(self, column: str) -> list[int]:
        """The numbers of the rows, sorted by a column; `-NAME` is downwards, numbers are numbers."""
        place = self._place(column.removeprefix("-"))
        return sorted(
            range(len(self.rows)),
            key=lambda row: _sort_key(_exact(self.rows[row][place])),
            reverse=column.startswith("-"),
        )

    def taken(self, rows: Sequence[int], columns: Sequence[str]) -> Table:
        """Some of the rows, and some of the columns (none: all), in the order given."""
        places = [self._place(name) for name in columns] or range(len(self.head))
        return Table(
            tuple(self.head[place] for place in places),
            tuple(tuple(self.rows[row][place] for place in places) for row in rows),
            () if columns else self.drop,
        )

    def piped(self, *, titled: bool = False) -> str:
        """One line a row, its cells between tabs; the head is one of the rows where it is `titled`."""
        rows = [self.head, *self.rows] if titled else self.rows
        return "\n".join(
            "\t".join(one_line(_exact(cell), LONGEST_PIPED) for cell in row) for row in rows
        )

    def fitted(self, width: int) -> str:
        """The table as it fits `width` columns of a terminal."""
        shown = [[one_line(_shown(cell), LONGEST_CELL) for cell in row] for row in self.rows]
        kept = [
            place
            for place in range(len(self.head))
            if place == 0 or any(row[place] for row in shown)
        ]
        widths = {
            place: max(cells(self.head[place]), *(cells(row[place]) for row in shown))
            for place in kept
        }
        for name in (*self.drop, *reversed(self.head[1:])):
            if _needed(kept, widths) <= width:
                break
            place = self.head.index(name)
            if place in kept and len(kept) > 1:
                kept.remove(place)
        room = width - sum(widths[place] + len(GAP) for place in kept[:-1])
        return "\n".join(
            _line([row[place] for place in kept], [widths[place] for place in kept], room)
            for row in [list(self.head), *shown]
        )

    def _place(self, name: str) -> int:
        known = {column.lower(): place for place, column in enumerate(self.head)}
        if name.lower() not in known:
            raise NotFound("column", name, known)
        return known[name.lower()]


def one_line(text: str, longest: int | None = None) -> str:
    """Without line feeds and tabs: a cell is one cell. Cut where it is longer, if ever."""
    line = _WHITE.sub(" ", text).strip(" ")
    return inert(line, len(line) if longest is None else longest)


def cells(text: str) -> int:
    """How many columns of a terminal a text takes; Chinese characters take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) else 1 + (unicodedata.east_asian_width(sign) in "WF")
        for sign in text
    )


def cut(text: str, width: int) -> str:
    """The text, or its beginning with an ellipsis, in `width` columns."""
    used = end = 0
    for place, sign in enumerate(text):  # one pass: a message may have ten thousand signs
        used += cells(sign)
        if used > width:
            return f"{text[:end]}…"
        if used < width:
            end = place + 1
    return text


def _needed(kept: Sequence[int], widths: dict[int, int]) -> int:
    """The width of all of it, the last column cut as far as it may be."""
    last = widths[kept[-1]] if len(kept) == 1 else min(widths[kept[-1]], _NARROWEST)
    return sum(widths[place] + len(GAP) for place in kept[:-1]) + last


def _line(row: Sequence[str], widths: Sequence[int], room: int) -> str:
    padded = [
        cell + " " * (width - cells(cell)) for cell, width in zip(row[:-1], widths, strict=False)
    ]
    last = cut(row[-1], room) if len(row) > 1 else row[-1]
    return GAP.join([*padded, last]).rstrip()


def _shown(cell: str | Cell) -> str:
    return cell.shown if isinstance(cell, Cell) else cell


def _exact(cell: str | Cell) -> str:
    return cell.exact if isinstance(cell, Cell) else cell


def _sort_key(text: str) -> tuple[tuple[int, float, str], ...]:
    """Numbers within a text count as numbers: naval@10 comes after naval@9."""
    return tuple(
        (0, float(part), "") if part.isdigit() else (1, 0.0, part.lower())
        for part in re.split(r"([0-9]+)", text)
        if part
    )
