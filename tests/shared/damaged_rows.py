"""Registries in SQLite whose rows adaptkit did not write: any value in any column, as a hostile or broken file may have."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = "ok\x1b]0;pwned\x07\x1b[2J\r FAKE\n  @prod: 1 → 9 \u202egnp.\x9b31m"
WRONG: dict[str, Any] = {
    "nothing": None,
    "bytes": b"\xff\x00\x1b[2Jbytes",
    "text": "text",
    "number": 7,
    "fraction": 0.5,
    "beyond 64 bits": 1e30,
    "infinite": float("inf"),
    "negative": -1,
    "not UTF-8": ("CAST(? AS TEXT)", b"a\xffb"),
    "half a character": ("CAST(? AS TEXT)", b"a\xed\xa0\x80"),
    "JSON cut off": '{"a":',
    "JSON of another kind": "[]",
    "JSON with other fields": '{"old":{"x":[1]},"new":[],"was":{"README.md":[1]},"a":{"b":{}}}',
    "JSON nested deeply": "[" * 20_000,
    "JSON with half a character": '{"a":"\\ud800"}',
    "JSON with no number": '{"a":1e999,"b":NaN}',
    "a NUL": "a\0b",
    "largest": 2**62,
    "controls": HOSTILE,
    "a URL without a host": "oci://[::1/a",
    "a path": "../../../etc/passwd",
    "the last moment": "9999-12-31T23:59:59-23:59",
    "the first moment": "0001-01-01T00:00:00+23:59",
    "empty": "",
    "another digest": "sha256:" + "0" * 64,
    "huge": "m" * 3_000_000,
}


def loosen(database: Path) -> None:
    """Take NOT NULL, lengths and types from the tables, so that a column keeps what it is given."""
    with closing(sqlite3.connect(database, isolation_level=None)) as sql:
        sql.execute("PRAGMA journal_mode=DELETE")
        sql.execute("PRAGMA writable_schema=ON")
        for name, made in sql.execute("SELECT name, sql FROM sqlite_master").fetchall():
            if name in tables_of(sql):
                loose = made.replace(" NOT NULL", "")
                loose = re.sub(
                    r'^(\s*"?(?!id\b)\w+"?) (VARCHAR\(\d+\)|TEXT|BOOLEAN|FLOAT|INTEGER)',
                    r"\1",
                    loose,
                    flags=re.MULTILINE,
                )
                sql.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (loose, name))
        sql.execute("PRAGMA writable_schema=RESET")


def tables_of(sql: sqlite3.Connection) -> list[str]:
    query = (
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%' "
        "AND name NOT LIKE '%\\_words\\_%' ESCAPE '\\'"
    )
    return [name for (name,) in sql.execute(query)]


def columns_of(database: Path) -> Iterator[tuple[str, str]]:
    """Every column of every table."""
    with closing(sqlite3.connect(database)) as sql:
        for table in tables_of(sql):
            for row in sql.execute(f"PRAGMA table_info({table})").fetchall():
                yield table, row[1]


def put(database: Path, table: str, column: str, value: Any) -> None:
    """Let every row have this value, or the first one where no two may have the same."""
    put_as, value = value if isinstance(value, tuple) else ("?", value)
    with closing(sqlite3.connect(database)) as sql:
        change = f'UPDATE {table} SET "{column}" = {put_as}'
        try:
            sql.execute(change, (value,))
        except sqlite3.IntegrityError:
            try:
                sql.execute(f"{change} WHERE rowid = (SELECT min(rowid) FROM {table})", (value,))
            except sqlite3.IntegrityError:  # an id that is no number
                return
        sql.commit()
