"""adaptkit_registry.database.engine: first openings at once, kills, locks, and the errors for what is not a registry."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from artifacts import manifest
from concurrency import FORK, at_once, killed
from sqlalchemy import text
from sqlalchemy.sql.compiler import SQLCompiler

from adaptkit.errors import NotARegistry, RegistryError, RegistryLocked, RegistryTooNew
from adaptkit_registry import Registry
from adaptkit_registry.database.indexes import INDEXES

TABLES = {
    "about",
    "adapters",
    "alembic_version",
    "alias_moves",
    "aliases",
    "artifacts",
    "base_levels",
    "base_names",
    "bases",
    "events",
    "files",
    "lineage",
    "metrics",
    "pairs",
    "placements",
    "redirects",
    "tags",
    "versions",
}


def _sql(path, query):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def _is_sound(path):
    """What a usable registry is: whole, foreign keys kept, every table, WAL, and one schema revision."""
    assert _sql(path, "PRAGMA integrity_check") == [("ok",)]
    assert _sql(path, "PRAGMA foreign_key_check") == []
    names = {name for (name,) in _sql(path, "SELECT name FROM sqlite_master WHERE type='table'")}
    assert {name for name in names if not name.startswith(INDEXES)} == TABLES
    assert names >= set(INDEXES)
    assert _sql(path, "PRAGMA journal_mode") == [("wal",)]
    assert _sql(path, "SELECT version_num FROM alembic_version") == [("0005",)]


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "registry.db"
    Registry.open(path).close()
    return path


# ---------------------------------------------------------------- first openings


def test_eight_first_openings_at_once_all_work(tmp_path):
    path = tmp_path / "registry.db"

    def opens(worker):
        def work():
            with Registry.open(path) as registry:
                return registry.add_version("naval", manifest(worker))[0].number

        return work

    assert sorted(at_once(opens(worker) for worker in range(8))) == list(range(1, 9))
    _is_sound(path)


def test_opening_makes_all_tables_in_wal_mode(database):
    _is_sound(database)


def test_a_first_opening_that_is_killed_can_be_done_again(tmp_path):
    started = time.perf_counter()
    Registry.open(tmp_path / "timed.db").close()
    took, chance, interrupted = time.perf_counter() - started, random.Random(1), 0
    for attempt in range(5):
        path = tmp_path / f"{attempt}.db"
        interrupted += killed(lambda path=path: Registry.open(path), took * chance.random())
        with Registry.open(path) as registry:
            assert registry.add_version("naval", manifest(1))[0].number == 1
        _is_sound(path)
    assert interrupted


def test_the_url_of_a_sqlite_file_opens_it_too(database):
    with Registry.open(f"sqlite:///{database}") as registry:
        registry.add_version("naval", manifest(1))
    with Registry.open(database) as registry:
        assert registry.names() == ("naval",)


def test_alembic_is_loaded_only_to_migrate(database):
    code = (
        "import sys; from pathlib import Path; from adaptkit_registry import Registry\n"
        "Registry.open(Path(sys.argv[1])).close(); print('alembic' in sys.modules)"
    )
    new, old = database.with_name("new.db"), database.with_name("old.db")
    with closing(sqlite3.connect(old)) as connection:
        dump = Path(__file__).parent / "released" / "0001.sql"
        connection.executescript(dump.read_text("utf-8"))
    for path, loaded in ((database, "False"), (new, "False"), (old, "True")):
        done = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == loaded


def test_opening_a_registry_twice_in_one_process_keeps_its_locks(database):
    """A second opening must not open and close the file beside SQLite: that would drop the locks of the first one."""
    import fcntl

    def a_lock_is_held():
        with database.open("r+b") as file:
            try:
                fcntl.lockf(
                    file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002
                )  # SQLite's shared lock
            except OSError:
                return True
            return False

    with Registry.open(database) as first:
        first.add_version("naval", manifest(1))
        assert at_once([a_lock_is_held]) == [
            False
        ]  # no idle connection crosses a fork, so none is open now
        first.names()
        other = subprocess.run(
            [sys.executable, "-c", _LOCKED, database], capture_output=True, text=True, check=True
        )
        assert other.stdout.strip() == "True"
        with Registry.open(database) as second:
            other = subprocess.run(
                [sys.executable, "-c", _LOCKED, database],
                capture_output=True,
                text=True,
                check=True,
            )
            assert other.stdout.strip() == "True"
            assert second.names() == ("naval",)


_LOCKED = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
        print(False)
    except OSError:
        print(True)
"""


# ---------------------------------------------------------------- writers that are killed


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=pytest.mark.soak)])
def test_a_killed_writer_leaves_whole_transactions(tmp_path, rounds):
    path, chance = tmp_path / "registry.db", random.Random(2)
    Registry.open(path).close()
    heard, patience = 0, 1
    for attempt in range(rounds + 5):
        if attempt >= rounds and heard:
            break
        here, there = FORK.Pipe(duplex=False)

        def writes(attempt=attempt, there=there):
            with Registry.open(path) as registry:
                for i in range(10_000):
                    version, _ = registry.add_version("naval", manifest((attempt, i)), alias="prod")
                    there.send(version.number)

        assert killed(writes, patience * (0.1 + 0.15 * chance.random()))
        there.close()
        acknowledged = [0]
        try:
            while True:
                acknowledged.append(here.recv())
        except EOFError:
            here.close()
        heard += len(acknowledged) - 1
        patience = 1 if len(acknowledged) > 1 else 2 * patience  # on a busy machine
        assert _sql(path, "PRAGMA integrity_check") == [("ok",)]
        assert _sql(path, "PRAGMA foreign_key_check") == []
        with Registry.open(path) as registry:
            assert registry.problems() == []
            found = registry.versions(name="naval")
            numbers = [version.number for version in found]
            assert numbers == list(range(1, len(numbers) + 1))
            if not numbers:  # killed before it had written anything
                continue
            acknowledged = acknowledged if len(acknowledged) > 1 else numbers[-1:]
            assert numbers[-1] - acknowledged[-1] in {
                0,
                1,
            }  # every acknowledged one exists; one more may not have been acknowledged
            assert registry.aliases("naval") == {"prod": numbers[-1]}
            assert [e.subject for e in reversed(registry.events()) if e.verb == "added"] == [
                v.ref for v in found
            ]
    assert heard > 0


# ---------------------------------------------------------------- errors


def test_a_registry_that_another_process_holds_is_locked_and_can_still_be_read(
    database, monkeypatch
):
    with Registry.open(database) as registry:
        registry.add_version("naval", manifest(1))
    monkeypatch.setenv("ADAPTKIT_BUSY_TIMEOUT", "0.2")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with Registry.open(database) as registry:
            with pytest.raises(
                RegistryLocked, match=r"registry\.db is locked: another process held it .* 0\.2 s"
            ):
                registry.add_version("naval", manifest(2))
            assert registry.version("naval").number == 1
            other.execute("ROLLBACK")
            assert registry.add_version("naval", manifest(2))[0].number == 2


def test_a_first_opening_waits_no_longer_than_it_was_told_to(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTKIT_BUSY_TIMEOUT", "0.2")
    path = tmp_path / "registry.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RegistryLocked, match="is locked"):
            Registry.open(path)
    Registry.open(path).close()
    _is_sound(path)


def test_a_busy_timeout_that_is_not_a_number_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTKIT_BUSY_TIMEOUT", "soon")
    with pytest.raises(RegistryError, match="ADAPTKIT_BUSY_TIMEOUT"):
        Registry.open(tmp_path / "registry.db")


def test_a_newer_schema_is_refused_and_left_alone(database):
    with closing(sqlite3.connect(database)) as other, other:
        other.execute("UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(
        RegistryTooNew, match="its schema is 0999, this version knows 0005"
    ) as caught:
        Registry.open(database)
    assert "pip install 'adaptkit-peft>=" in caught.value.fix
    assert _sql(database, "SELECT version_num FROM alembic_version") == [("0999",)]


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("table", ["songs (title)", "alembic_version (version_num)"])
def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path, table, mode):
    path = tmp_path / "music.db"
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(f"PRAGMA journal_mode={mode}")
        other.execute(f"CREATE TABLE {table}")
        other.execute(f"INSERT INTO {table.split()[0]} VALUES ('abc')")
    with pytest.raises(NotARegistry, match=r"music\.db belongs to another program"):
        Registry.open(path)
    assert _sql(path, "SELECT name FROM sqlite_master") == [(table.split()[0],)]
    assert _sql(path, "PRAGMA journal_mode") == [(mode,)]


@pytest.mark.parametrize("content", [b"dear diary, today", b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    with pytest.raises(NotARegistry, match=r"diary\.txt is not a database"):
        Registry.open(path)
    assert path.read_bytes() == content


def test_a_damaged_registry_is_an_error(database):
    with Registry.open(database) as registry:
        registry.add_version("naval", manifest(1))
    data = bytearray(database.read_bytes())
    data[100:] = b"\xa5" * (len(data) - 100)
    database.write_bytes(data)
    with (
        pytest.raises(NotARegistry, match="is not a database: .*malformed"),
        Registry.open(database) as registry,
    ):
        registry.versions()


def test_an_empty_file_becomes_a_registry(tmp_path):
    path = tmp_path / "registry.db"
    path.touch()
    Registry.open(path).close()
    _is_sound(path)


def test_what_reads_while_the_database_is_made_reads_to_its_end(tmp_path):
    """One of many that are added at once makes the database, while others look at what was there before."""
    with Registry.open(tmp_path / "registry.db", making=lambda: None) as registry:
        with registry._reading() as connection:
            assert connection.execute(text("SELECT count(*) FROM adapters")).scalar() == 0
            registry.make()
            assert connection.execute(text("SELECT count(*) FROM versions")).scalar() == 0
        assert registry.versions() == []


def test_a_folder_is_no_registry(tmp_path):
    with pytest.raises(RegistryError, match="the registry .* is not used: .* is a folder"):
        Registry.open(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(RegistryError, match="cannot open the registry .*No such file") as caught:
        Registry.open(tmp_path / "gone" / "registry.db")
    assert "adaptkit init" in caught.value.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_writing_to_a_read_only_registry_is_an_error(database):
    database.chmod(0o444)
    with Registry.open(database) as registry, pytest.raises(RegistryError, match="read-only"):
        registry.add_version("naval", manifest(1))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg://ada:hunter2@127.0.0.1:1/adaptkit", "psycopg"),
        ("nosuch://ada:hunter2@host/adaptkit", "no driver for 'nosuch'"),
        (
            "postgresql://ada:hunter2@127.0.0.1:1/adaptkit",
            "postgresql://ada:***@127.0.0.1:1/adaptkit",
        ),
        ("ada:hunter2@host", "not a database URL"),
        ("postgresql+psycopg://ada:hunter2@host:port/adaptkit", "not a database URL"),
    ],
)
def test_a_database_url_that_does_not_work_is_an_error_without_the_password(url, message):
    with pytest.raises(RegistryError) as caught:
        Registry.open(url)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "ada:" not in str(caught.value).replace("ada:***@", "")


def test_a_driver_that_is_not_installed_is_named_with_what_to_type():
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from adaptkit.errors import RegistryError; from adaptkit_registry import Registry\n"
        "try: Registry.open('postgresql+psycopg://ada:hunter2@127.0.0.1:1/adaptkit')\n"
        "except RegistryError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        "cannot open the registry postgresql+psycopg://ada:***@127.0.0.1:1/adaptkit" in done.stdout
    )
    assert "pip install 'adaptkit-peft[postgres]'" in done.stdout


def test_a_statement_becomes_sql_once_however_many_registries_are_opened(tmp_path, monkeypatch):
    def used(name, alias):
        with Registry.open(tmp_path / f"{name}.db") as registry:
            registry.add_version(name, manifest(name), alias=alias)
            return [(one.ref, one.aliases) for one in registry.versions(name=name)]

    assert used("naval", "prod") == [("naval@1", ("prod",))]
    made, make = [], SQLCompiler.__init__

    def counted(self, dialect, statement, **options):
        made.append(type(statement).__name__)
        make(self, dialect, statement, **options)

    monkeypatch.setattr(SQLCompiler, "__init__", counted)
    assert used("medic", "canary") == [("medic@1", ("canary",))]
    assert made == []
