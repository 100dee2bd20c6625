"""A SQLite file that somebody else made is refused before a query runs on it: programs in it, pipes, huge values."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from adaptkit.errors import NotARegistry, RegistryError
from adaptkit_registry import Registry

ENDLESS = "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT count(*) FROM x"
PROGRAMS = {
    "view": f"CREATE VIEW evil AS {ENDLESS}",
    "trigger": f"CREATE TRIGGER evil AFTER INSERT ON events BEGIN DELETE FROM tags WHERE 1 = ({ENDLESS}); END",
    "virtual table": "CREATE VIRTUAL TABLE evil USING fts5(text, content='versions')",
}


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "registry.db"
    with Registry.open(path):
        pass
    return path


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_program_that_is_not_adaptkits_is_refused_before_any_query_runs_it(kind, database):
    with closing(sqlite3.connect(database)) as sql:
        sql.execute(PROGRAMS[kind])
        sql.commit()
    with pytest.raises(NotARegistry, match=f"it has a {kind} 'evil' that is none of adaptkit's"):
        Registry.open(database)


def test_a_view_in_the_place_of_a_table_is_refused(database):
    with closing(sqlite3.connect(database)) as sql:
        sql.execute("DROP TABLE events")
        sql.execute(f"CREATE VIEW events AS {ENDLESS}")
        sql.commit()
    with pytest.raises(NotARegistry, match="a view 'events'"):
        Registry.open(database)


def test_a_value_that_sqlite_would_make_itself_has_a_longest_length(database):
    """A column that is computed can stand for more memory than the file has bytes."""
    with closing(sqlite3.connect(database)) as sql:
        sql.execute("DROP TABLE about")
        sql.execute(
            "CREATE TABLE about (key TEXT AS (CAST(zeroblob(900000000) AS TEXT)), value, own)"
        )
        sql.execute("INSERT INTO about (value, own) VALUES ('x', 'y')")
        sql.execute("UPDATE alembic_version SET version_num = '9999'")  # asks for a key of `about`
        sql.commit()
    with pytest.raises(RegistryError, match="too big"):
        Registry.open(database)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a pipe"), (os.mkdir, "a folder")])
def test_a_pipe_or_a_folder_for_a_file_of_the_database_is_an_error_not_a_hang(
    suffix, make, kind, database
):
    name = f"{database.name}{suffix}"
    (database.parent / name).unlink(missing_ok=True)
    make(database.parent / name)
    with pytest.raises(NotARegistry, match=f"{name} is {kind}"):
        Registry.open(database)


def test_a_damaged_text_of_the_schema_is_an_error_that_quotes_it(database):
    data = database.read_bytes()
    assert data.count(b"NOT NULL") > 9
    database.write_bytes(data.replace(b"NOT NULL", b"NO\xac NULL"))
    with pytest.raises(NotARegistry, match=r"malformed database schema .*\\xac"):
        Registry.open(database)


def test_a_database_that_no_one_may_write_is_an_error_message_on_its_first_opening(database):
    with closing(sqlite3.connect(database)) as sql:
        sql.execute("PRAGMA journal_mode=DELETE")
    data = bytearray(database.read_bytes())
    data[18] = 9  # a write version that no SQLite knows: it may only be read
    database.write_bytes(data)
    with pytest.raises(RegistryError, match="it is read-only"):
        Registry.open(database)
