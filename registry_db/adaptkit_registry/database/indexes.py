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


def _statements() -> Iterator[str]:
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
            f"CREATE VIEW {view} AS SELECT id, CASE WHEN text GLOB '*[^ -~]*' THEN lower(text) "
            f"ELSE text END AS text FROM (SELECT o.id AS id, {_OWN[view]} AS text FROM {table} o)"
        )
        yield (
            f"CREATE VIRTUAL TABLE {index} USING fts5(text, content='{view}', content_rowid='id', "
            "tokenize='trigram', detail='none', columnsize=0)"
        )
        remove = f"INSERT INTO {index}({index}, rowid, text) SELECT 'delete', id, text FROM {view} WHERE id = "
        put = f"INSERT INTO {index}(rowid, text) SELECT id, text FROM {view} WHERE id = "
        for name, when, body in (
            ("inserted", f"AFTER INSERT ON {table}", f"{put}new.id"),
            ("updating", f"BEFORE UPDATE OF {columns} ON {table}", f"{remove}old.id"),
            ("updated", f"AFTER UPDATE OF {columns} ON {table}", f"{put}new.id"),
            ("deleting", f"BEFORE DELETE ON {table}", f"{remove}old.id"),
        ):
            yield f"CREATE TRIGGER {table}_{name} {when} BEGIN {body}; END"
        for name, when, row in (
            ("insert", "INSERT", "new"),
            ("delete", "DELETE", "old"),
        ):
            yield f"CREATE TRIGGER {part}_before_{name} BEFORE {when} ON {part} BEGIN {remove}{row}.{owner}; END"
            yield f"CREATE TRIGGER {part}_after_{name} AFTER {when} ON {part} BEGIN {put}{row}.{owner}; END"


SQL = (
    *(f"CREATE INDEX ix_{table}_any_case ON {table} (name COLLATE NOCASE)" for table in _NAMED),
    *_statements(),
)
"""For SQLite; in PostgreSQL migration 0005 makes those of names, on `lower(name)`."""


def make_indexes(connection: Connection) -> None:
    """Make the indexes of new, empty tables."""
    for statement in SQL:
        connection.exec_driver_sql(statement)


def rows_with(connection: Connection, index: str, word: str, limit: int) -> list[int]:
    """The ids of the first rows that may hold a word of `SHORTEST` characters or more; all that do are among them."""
    parts = dict.fromkeys(word[i : i + 3] for i in range(len(word) - 2))
    wanted = " AND ".join('"' + part.replace('"', '""') + '"' for part in parts)
    query = text(f"SELECT rowid FROM {index} WHERE {index} MATCH :wanted LIMIT :limit")
    return list(connection.execute(query, {"wanted": wanted, "limit": limit}).scalars())


def stale_indexes(connection: Connection) -> list[str]:
    """The indexes that do not hold what the tables say; SQLite wants a transaction that may write."""
    stale = []
    for index in INDEXES:
        try:
            connection.exec_driver_sql(
                f"INSERT INTO {index}({index}, rank) VALUES ('integrity-check', 1)"
            )
        except exc.DatabaseError as error:
            if "malformed" not in str(error.orig):
                raise
            stale.append(index)
    return stale


def rebuild_index(connection: Connection, index: str) -> None:
    """Make an index anew from the tables."""
    connection.exec_driver_sql(f"INSERT INTO {index}({index}) VALUES ('rebuild')")
