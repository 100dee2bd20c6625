"""Lines that fit a terminal.

Notable choices:
- a line is broken between words, and goes on below its own text
- a command, a path or a URL is never broken: it is there to be copied; what is longer than the terminal goes on over
  its edge, and is copied whole
- a digest or a level of a base that does not fit is shown as its beginning, which stands for it in every command
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adaptkit.cli.output.table import cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LONG = re.compile(r"\b((?:sha256|as1|fs1|tm1):[0-9a-f]{12})[0-9a-f]{52}\b")
_LABEL = re.compile(r" +\S+ {2,}(?=\S)|(?:error|warning|Error): | *")
_WORD = re.compile(
    r"(?P<gap> *)(?P<word>'[^' ]+(?: [^' ]+)*'\S*"  # quoted: a name, a glob, a file with blanks
    r"|(?:adaptkit|pip|python|git) [a-z-](?:[^,;)]|,(?! ))*|\S+)"
)


def fitted(lines: Sequence[str], width: int | None) -> list[str]:
    """The lines as they fit the columns of a terminal; as they are where there is none."""
    if width is None:
        return list(lines)
    return [part for line in lines for part in _fitted(line, width)]


def _fitted(line: str, width: int) -> Iterator[str]:
    if cells(line) <= width:
        yield line
        return
    line = _LONG.sub(r"\1…", line)
    label = _LABEL.match(line)
    indent = label.end() if label and label.end() <= width // 2 else 0
    row = line[:indent]
    for found in _WORD.finditer(line, indent):
        gap, word = (found["gap"], found["word"]) if row.strip() else ("", found["word"])
        if row.strip() and cells(row) + len(gap) + cells(word) > width and row != line[:indent]:
            yield row
            row, gap = " " * indent, ""
        row += gap + word
    yield row
