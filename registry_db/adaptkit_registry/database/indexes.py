"""Indexes that the tables of SQLAlchemy cannot say: of texts for `list WORD`, in SQLite, and of names whatever their case.

Notable choices:
- for texts FTS5 with the trigram tokenizer (SQLite 3.34 or newer), so a word is found inside of others, as by LIKE;
  it holds no text (external content) and no positions: about one byte for each of the text
- triggers keep it in the transaction of the change, whatever makes the change: an import, a migration, another program.
  Rows of tags and redirects are inserted and deleted only: an UPDATE, OR IGNORE or OR REPLACE goes past the triggers,
  and fsck --repair has to build the index again
- it may hold too much and never too little: what is found by it is compared again, so results are those of LIKE.
  Text with a character outside ASCII is indexed in lower case as Python has it, which is what LIKE compares here
- dropping a table drops its triggers: a migration that makes one of these tables anew makes them anew as well

PostgreSQL has none of texts: its own (pg_trgm) is an extension that not every server has. It compares all of them.
"""

# ruff: noqa: S608  (the names are those below)

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exc, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

INDEXES = ("adapter_words", "version_words")
SHORTEST = 3
"""Characters of a word that the index can find."""

_NAMED = ("adapters", "redirects")  # a new name is compared with all of these
_JOINED = "coalesce((SELECT group_concat(' ' || {0}, '') FROM (SELECT {0} FROM {1} WHERE {2} = o.id ORDER BY {0})), '')"
_OWN = {
    "adapter_texts": f"o.name || ' ' || o.description || {_JOINED.format('name', 'redirects', 'adapter_id')}",
    "version_texts": f"o.message || {_JOINED.format('tag', 'tags', 'version_id')}",
}


def _statements() -> Iterator[tuple[str, str]]:
    """What makes each index, its view and its triggers, with the name of the index."""
    for index, view, table, columns, part, owner in (
        (
            "adapter_words",
            "adapter_texts",
            "adapters",
            "name, description",
            "redirects",
            "adapter_id",
        ),
        ("version_words", "version_texts", "versions", "message", "tags", "version_id"),
    ):
        yield (
            index,
            (
                f"CREATE VIEW {view} AS SELECT id, CASE WHEN text GLOB '*[^ -~]*' THEN lower(text) "
                f"ELSE text END AS text FROM (SELECT o.id AS id, {_OWN[view]} AS text FROM {table} o)"
            ),
        )
        yield (
            index,
            (
                f"CREATE VIRTUAL TABLE {index} USING fts5(text, content='{view}', content_rowid='id', "
                "tokenize='trigram', detail='none', columnsize=0)"
            ),
        )
        remove = f"INSERT INTO {index}({index}, rowid, text) SELECT 'delete', id, text FROM {view} WHERE id = "
        put = f"INSERT INTO {index}(rowid, text) SELECT id, text FROM {view} WHERE id = "
        for name, when, body in (
            ("inserted", f"AFTER INSERT ON {table}", f"{put}new.id"),
            ("updating", f"BEFORE UPDATE OF {columns} ON {table}", f"{remove}old.id"),
            ("updated", f"AFTER UPDATE OF {columns} ON {table}", f"{put}new.id"),
            ("deleting", f"BEFORE DELETE ON {table}", f"{remove}old.id"),
        ):
            yield index, f"CREATE TRIGGER {table}_{name} {when} BEGIN {body}; END"
        for name, when, row in (
            ("insert", "INSERT", "new"),
            ("delete", "DELETE", "old"),
        ):
            for body, side in ((remove, "before"), (put, "after")):
                yield (
                    index,
                    f"CREATE TRIGGER {part}_{side}_{name} {side.upper()} {when} ON {part} BEGIN {body}{row}.{owner}; END",
                )


SQL = (
    *(f"CREATE INDEX ix_{table}_any_case ON {table} (name COLLATE NOCASE)" for table in _NAMED),
    *(statement for _, statement in _statements()),
)
"""For SQLite; in PostgreSQL migration 0005 makes those of names, on `lower(name)`."""


def rows_with(connection: Connection, index: str, word: str, limit: int) -> list[int]:
    """The ids of the first rows that may hold a word of `SHORTEST` characters or more; all that do are among them."""
    parts = dict.fromkeys(word[i : i + 3] for i in range(len(word) - 2))
    wanted = " AND ".join('"' + part.replace('"', '""') + '"' for part in parts)
    query = text(f"SELECT rowid FROM {index} WHERE {index} MATCH :wanted LIMIT :limit")
    return list(connection.execute(query, {"wanted": wanted, "limit": limit}).scalars())


def stale_indexes(connection: Connection) -> list[str]:
    """The indexes that do not hold what the tables say, or lack a part; SQLite wants a transaction that may write."""
    there = set(connection.execute(text("SELECT sql FROM sqlite_master")).scalars())
    stale = []
    for index in INDEXES:
        try:
            whole = there.issuperset(part for name, part in _statements() if name == index)
            if whole:
                connection.exec_driver_sql(
                    f"INSERT INTO {index}({index}, rank) VALUES ('integrity-check', 1)"
                )
        except exc.DatabaseError as error:
            whole = False
            if not is_damage(error):
                raise
        if not whole:
            stale.append(index)
    return stale


def is_damage(error: exc.DatabaseError) -> bool:
    """Whether an error of SQLite says that an index, or a table that it is kept in, cannot be read."""
    signs = ("malformed", "vtable", "no such table", "SQL logic error")
    return any(sign in str(error.orig) for sign in signs)


def rebuild_index(connection: Connection, index: str) -> None:
    """Make an index anew from the tables, with its view and its triggers, whatever is left of it."""
    parts = [part for name, part in _statements() if name == index]
    for part in parts:
        kind, name = part.split()[1:3]
        if kind != "VIRTUAL":
            connection.exec_driver_sql(f"DROP {kind} IF EXISTS {name}")
    try:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {index}")
    except exc.DatabaseError as error:
        if not is_damage(error):
            raise
        # a virtual table that cannot be opened cannot be dropped either
        connection.exec_driver_sql("PRAGMA writable_schema=ON")
        connection.exec_driver_sql(f"DELETE FROM sqlite_master WHERE name = '{index}'")
        connection.exec_driver_sql("PRAGMA writable_schema=RESET")
    for kept in ("data", "idx", "config"):
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {index}_{kept}")
    for part in parts:
        connection.exec_driver_sql(part)
    connection.exec_driver_sql(f"INSERT INTO {index}({index}) VALUES ('rebuild')")
