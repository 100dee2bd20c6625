"""What SQLite gives back is checked where it is read: it keeps any value in any column, and a file may be anybody's.

Notable choices:
- the columns' own types check, so a row that adaptkit did not write is known in every query, with its table and column
- the check is a comparison of types in SQLAlchemy's reading of rows; PostgreSQL, which enforces types, has none
- `DamagedRow` is for this alone: an error of our own while a transaction is open stays what it is
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import BigInteger, Boolean, Float, Integer, String, Text, type_coerce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Column, ColumnElement, Dialect, MetaData
    from sqlalchemy.types import TypeEngine

K = TypeVar("K")
V = TypeVar("V")

_SHOWN = 120  # characters of a library's text


class DamagedRow(Exception):
    """A row that adaptkit did not write: where it is, and what is wrong with it."""


class _Checked:
    """A column's type whose values are checked as SQLite gives them back."""

    of: type
    column = ""
    optional = False

    def adapt(self, cls: type, **options: Any) -> Any:
        """A copy for one kind of database."""
        made = super().adapt(cls, **options)  # type: ignore[misc]
        made.column, made.optional = self.column, self.optional
        return made

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        if dialect.name == "sqlite":
            return self.reader()
        found: Callable[[Any], Any] | None = super().result_processor(dialect, coltype)  # type: ignore[misc]
        return found

    def reader(self) -> Callable[[Any], Any]:
        """What returns a value that may stand in this column, and raises `DamagedRow` for others."""
        of, optional = self.of, self.optional

        def read(value: Any) -> Any:
            if type(value) is of or (value is None and optional):
                return value
            raise self.wrong(value)

        return read

    def wrong(self, value: object) -> DamagedRow:
        """The error for a value of this column."""
        if isinstance(value, int | float):
            held = f"the number {value:g}"
        else:
            held = "bytes" if isinstance(value, bytes) else "text" if value else "nothing"
        return DamagedRow(f"its column {self.column} holds {held}")


class _String(_Checked, String):
    of = str


class _Text(_Checked, Text):
    of = str


class _Integer(_Checked, Integer):
    of = int


class _BigInteger(_Checked, BigInteger):
    of = int


class _Float(_Checked, Float[float]):
    def reader(self) -> Callable[[Any], Any]:
        def read(value: Any) -> Any:
            if (type(value) is float or type(value) is int) and isfinite(value):
                return float(value)
            if value is None and self.optional:
                return value
            raise self.wrong(value)

        return read


class _Boolean(_Checked, Boolean):
    def reader(self) -> Callable[[Any], Any]:
        def read(value: Any) -> Any:
            if type(value) is int and value in {0, 1}:
                return value == 1
            if value is None and self.optional:
                return value
            raise self.wrong(value)

        return read


_KINDS: dict[type, type] = {
    String: _String,
    Text: _Text,
    Integer: _Integer,
    BigInteger: _BigInteger,
    Float: _Float,
    Boolean: _Boolean,
}


def check_columns(metadata: MetaData) -> None:
    """Let the columns of all tables check what SQLite gives back."""
    for table in metadata.tables.values():
        for column in table.columns:
            column.type = _checked(column.type, f"{table.name}.{column.name}", column.nullable)


def _checked(kind: TypeEngine[Any], column: str, optional: bool | None) -> TypeEngine[Any]:
    made: Any = kind.adapt(_KINDS[type(kind)])
    made.column, made.optional = column, bool(optional)
    variants = {
        name: _checked(one, column, optional) if name == "sqlite" else one
        for name, one in kind._variant_mapping.items()  # noqa: SLF001  (there is no other way to read them)
    }
    made._variant_mapping = made._variant_mapping.union(variants)  # noqa: SLF001
    checked: TypeEngine[Any] = made
    return checked


def optional(column: Column[V]) -> ColumnElement[V | None]:
    """A column that an outer join may leave without a value."""
    return type_coerce(column, _checked(_plain(column), str(column), True))


def unchecked(column: Column[V]) -> ColumnElement[V]:
    """A column whose values are compared with sound ones anyway, so that a check of each is work for nothing."""
    return type_coerce(column, _plain(column))


def _plain(column: Column[Any]) -> TypeEngine[Any]:
    kind = type(column.type)
    return column.type.adapt(next(plain for plain, checked in _KINDS.items() if checked is kind))


class Known(dict[K, V]):
    """Rows of a table by their id; a row that points at none of them is damaged."""

    def __init__(self, table: str) -> None:
        super().__init__()
        self.table = table

    def __missing__(self, key: object) -> V:
        raise DamagedRow(f"it points at a row of {self.table} that does not exist")


@contextmanager
def decoding(column: str) -> Iterator[None]:
    """What cannot be made of the text of a column is `DamagedRow`; around that work only."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        text = " ".join(str(error).split())[:_SHOWN]
        raise DamagedRow(
            f"its column {column} cannot be read ({type(error).__name__}: {text})"
        ) from error


def json_object(column: str, text: str, check: Callable[[Any], None]) -> dict[str, Any]:
    """The JSON object in the text of a column, which `check` finds sound; else `DamagedRow`."""
    with decoding(column):
        found = json.loads(text)
        check(found)
        return cast("dict[str, Any]", found)
