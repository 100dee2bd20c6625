"""A SQLite file may be anybody's, as one in a clone: what is refused before a query runs on it.

Notable choices:
- views, triggers and virtual tables are programs that run inside our own queries, and may never end: only those that
  adaptkit makes are let in, word for word
- a value is at most `LONGEST` bytes, also one that SQLite would make itself, such as a column's `zeroblob(900000000)`
- the database and the files that SQLite keeps beside it are plain files: opening a pipe would wait for ever
"""

from __future__ import annotations

import sqlite3
import stat
from typing import TYPE_CHECKING

from adaptkit.errors import NotARegistry
from adaptkit_registry.database.indexes import INDEXES, SQL

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection, Engine

LONGEST = 32 << 20  # bytes of a value or a row; a manifest of a place has at most 4 MB
_OURS = frozenset(SQL)
_PROGRAMS = (
    "SELECT type, name, sql FROM sqlite_master WHERE type IN ('view', 'trigger') "
    "OR sql LIKE 'CREATE VIRTUAL%' ORDER BY name"
)
_BESIDE = ("-journal", "-wal", "-shm")


def bound_values(connection: sqlite3.Connection) -> None:
    """Let no value of a new connection be longer than `LONGEST`."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)


def check_plain(path: Path) -> None:
    """Refuse a database that is a pipe, a socket, a device or a folder, and one with such a file beside it."""
    for suffix in ("", *_BESIDE):
        file = path.with_name(path.name + suffix)
        try:
            mode = file.stat().st_mode
        except OSError:  # none, or none that can be read: opening the database says so
            continue
        if not stat.S_ISREG(mode):
            raise NotARegistry(
                f"the registry {path} is not used",
                why=f"{file.name} is {_kind(mode)}",
                fix="check --home, or restore a backup",
            )


def check_programs(connection: Engine | Connection, shown: str) -> None:
    """Refuse a database with a view, a trigger or a virtual table that adaptkit does not make."""
    from sqlalchemy import Engine

    if isinstance(connection, Engine):
        with connection.connect() as opened:
            check_programs(opened, shown)
        return
    for kind, name, made in connection.exec_driver_sql(_PROGRAMS):
        if made not in _OURS and not (kind == "table" and _is_index(name, made)):
            what = "virtual table" if kind == "table" else kind
            raise NotARegistry(
                f"the registry {shown} is not used",
                why=f"it has a {what} '{str(name)[:80]}' that is none of adaptkit's, and that would run within its queries",
                fix="check where the file came from; adaptkit registry rebuild --from REMOTE makes one anew",
            )


def _is_index(name: str, made: str) -> bool:
    """Whether a virtual table is an index of texts, of whatever tokenizer: another SQLite may not have ours."""
    return name in INDEXES and made.startswith(f"CREATE VIRTUAL TABLE {name} USING fts5(")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
