"""A TOML file that people write, read strictly: what it may hold is a `msgspec.Struct`, and every mistake has its line.

A key that nothing reads could switch a protection off without a word, so unknown keys, keys in the wrong table
and values of another type are errors that name the file, the line and the nearest known key.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from adaptkit.errors import AdaptkitError, nearest
from adaptkit.io.files import os_errors
from adaptkit.io.struct_mistakes import called, is_struct, tables_of, taken_apart, wanted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from adaptkit.io.struct_mistakes import Where

T = TypeVar("T")

LARGEST = 1 << 20  # bytes of a file that a person writes
_AT_LINE = re.compile(r"\s*\(at line (\d+)")
_BARE = re.compile(r"\s*[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\s*")
_KINDS = {
    "str": "text in quotes",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "array": "a list",
    "object": "a table",
}


class BadToml(ValueError):
    """A mistake in a text: where it is (`line` 0: not known), why it is one, and what to do."""

    def __init__(self, line: int, why: str, fix: str = "") -> None:
        super().__init__(why)
        self.line, self.why, self.fix = line, why, fix

    def error(self, what: str, fix: str) -> AdaptkitError:
        """The error for people: `what` says which file cannot be read."""
        at = f", line {self.line}" if self.line else ""
        return AdaptkitError(f"{what}{at}", why=self.why, fix=f"{self.fix}{fix}")


def read_text(path: Path) -> str:
    """The text of a file that a person wrote; `BadToml` when it is none."""
    with os_errors("read", path), path.open("rb") as file:
        return text_of(file.read(LARGEST + 1))


def text_of(data: bytes) -> str:
    """The text that a person wrote, from at most one byte more than it may have; `BadToml` when it is none."""
    if len(data) > LARGEST:
        raise BadToml(0, f"it is larger than {LARGEST:,} bytes")
    try:
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise BadToml(data[: error.start].count(b"\n") + 1, "it is not UTF-8") from error


def load(text: str) -> dict[str, Any]:
    """The tables of a text; `BadToml` when it is not TOML, nested too deeply, or holds a number of thousands of digits."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.search(str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        raise BadToml(line, _AT_LINE.split(str(error))[0]) from error
    except RecursionError as error:
        raise BadToml(0, "it is nested too deeply") from error
    except ValueError as error:
        raise BadToml(0, f"a value cannot be read: {error}") from error


def parse(text: str, kind: type[T]) -> T:
    """The text as a `kind` of msgspec.Struct; `BadToml` for everything that it does not allow."""
    import msgspec

    from adaptkit.types.checks.convert import convert

    table = load(text)
    try:
        return convert(table, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), text, table, kind) from error


def line_of(text: str, key: str, within: str = "", number: int = 0) -> int:
    """The line on which a table, or (`within` one) a key of it, is written; 0 when it is not found.

    Of an array of tables, `number` counts from 0.
    """
    tables, keys = _lines(text)
    if within:
        return keys.get((within, number, key), 0)
    return keys.get(("", 0, key), 0) or tables.get((key, number), 0)


@lru_cache(maxsize=4)
def _lines(text: str) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int, str], int]]:
    """The lines of tables, by name and how many of that name stand before, and of keys, by that of their table."""
    tables: dict[tuple[str, int], int] = {}
    keys: dict[tuple[str, int, str], int] = {}
    table, seen = "", Counter[str]()
    for line_number, line in enumerate(text.split("\n"), 1):
        head = line.strip()
        if head.startswith("["):
            table = _name_of(head.partition("#")[0].strip().strip("[]"))
            tables[table, seen[table]] = line_number
            seen[table] += 1
        elif "=" in head:
            place = max(seen[table] - 1, 0)
            keys.setdefault((table, place, _name_of(head.partition("=")[0])), line_number)
    return tables, keys


def line_at(text: str, where: Where) -> int:
    """The line of the innermost part of `where` that has one of its own; 0 when none has."""
    number = where[1] if len(where) > 1 and isinstance(where[1], int) else 0
    keys = [step for step in where if isinstance(step, str)]
    for end in range(len(keys), 0, -1):
        table, key, dotted = ".".join(keys[: end - 1]), keys[end - 1], ".".join(keys[:end])
        if found := line_of(text, key, table, number) or line_of(text, dotted, "", number):
            return found
    return 0


def misplaced(where: Where, owner: str) -> str:
    """Why a known key stands in the wrong table."""
    key, table = where[-1], _table(where)
    here = f"stands in [{table}]" if table else "stands at the top of the file"
    there = (
        f"belongs in [{owner}]" if owner else "belongs at the top of the file, above every [table]"
    )
    return f"'{key}' {here} and {there}"


def _explained(message: str, text: str, table: Any, kind: Any) -> BadToml:
    found = taken_apart(message, table, kind)
    where = found.where
    if found.what == "unknown":
        return _unknown(where, text, found.kind, kind)
    line = line_at(text, where)
    if found.what == "missing":
        return BadToml(
            line, f"{called(where)} has no '{found.detail}'", f"add {found.detail} = …; "
        )
    in_table = len(where) > 1 and all(isinstance(step, str) for step in where)
    if in_table and (owner := _owner(where, kind)) is not None:
        return BadToml(line, misplaced(where, owner), "move that line; ")
    return BadToml(line, f"{called(where)} {wanted(found.detail, _KINDS)}")


def _unknown(where: Where, text: str, inner: Any, kind: Any) -> BadToml:
    key, known = str(where[-1]), list(tables_of(inner))
    line = line_at(text, where)
    if (owner := _owner(where, kind)) is not None:
        return BadToml(line, misplaced(where, owner), "move that line; ")
    near = nearest(key, known, show=1)[0]
    here = f"[{_table(where)}]" if where[:-1] else "the file"
    return BadToml(
        line,
        f"{here} has no key '{key}', nearest is '{near}'",
        f"known are {', '.join(known)}; ",
    )


def _owner(where: Where, kind: Any) -> str | None:
    """The table that has a key which the table it stands in has not, dotted: "" is the top of the file."""
    owners = [table for table, keys in _homes(kind) if where[-1] in keys]
    return ".".join(owners[0]) if owners and where[:-1] not in owners else None


def _homes(kind: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Sequence[str]]]:
    """Every table that a file may have, with its keys."""
    yield at, list(tables_of(kind))
    for name, inner in tables_of(kind).items():
        if is_struct(inner):
            yield from _homes(inner, (*at, name))


def _table(where: Where) -> str:
    """The table of a key; those of an array are counted from 1."""
    return ".".join(str(step + 1 if isinstance(step, int) else step) for step in where[:-1])


def _name_of(written: str) -> str:
    if _BARE.fullmatch(written):
        return written.strip()
    try:
        value: Any = tomllib.loads(f"{written} = 0")
    except tomllib.TOMLDecodeError:
        return ""
    parts = []
    while isinstance(value, dict) and len(value) == 1:
        ((part, value),) = value.items()
        parts.append(part)
    return ".".join(parts)
