"""Open the database: settings, first schema, migrations, and the errors for a file that is no registry.

Notable choices:
- SQLite in WAL with synchronous=FULL, foreign keys and a 30 s busy timeout; writers `BEGIN IMMEDIATE`
  (deferred ones lose most of their work to "database is locked"), readers `BEGIN`
- an up-to-date database costs one query; a new SQLite file gets the tables of the models and the newest revision, and
  alembic (0.6 s to import) is loaded only to migrate
- on PostgreSQL a writer first takes an advisory lock of the database, so writers queue there as well, migrations
  included; readers work on one snapshot and never wait
- the first opening, and a migration, happen inside a lock file: journal_mode cannot be changed in a transaction
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Engine, StaticPool, create_engine, event, exc, inspect, make_url, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from adaptkit.errors import (
    NotARegistry,
    RegistryError,
    RegistryTooNew,
    distribution,
    install_line,
)
from adaptkit_registry.database.driver_errors import busy_timeout, database_errors, shown
from adaptkit_registry.database.indexes import SQL as INDEXED
from adaptkit_registry.database.schema import about, metadata
from adaptkit_registry.database.sqlite_file import bound_values, check_plain, check_programs
from adaptkit_registry.database.statements import STATEMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

HEAD = "0005"
WRITE = "adaptkit_write"  # execution option of transactions that will write
_KNOWN = frozenset({"0001", "0002", "0003", "0004", HEAD})
_OPTIONS = {"compiled_cache": STATEMENTS}
_MIGRATIONS = Path(__file__).parent.parent / "migrations"
_TURN = 4151402077  # the advisory lock of a writer
_MAGIC = b"SQLite format 3\x00"
_REVISIONS = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
"""As alembic makes it."""


def open_engine(where: str | Path) -> Engine:
    """An engine on an up-to-date database, made or migrated if need be. `where` is a URL, or a path for SQLite."""
    url = URL.create("sqlite", database=str(where)) if isinstance(where, Path) else _parse(where)
    with database_errors(url):
        engine = _opened(url)
    _ENGINES[engine] = (
        _inode(Path(url.database)) if url.get_backend_name() == "sqlite" and url.database else None
    )
    return engine


def empty_engine() -> Engine:
    """An engine on an empty registry in memory, made when it is read: what a file that does not exist reads as."""
    engine = create_engine(
        "sqlite://",
        poolclass=StaticPool,
        connect_args={"check_same_thread": False},
        execution_options=_OPTIONS,
    )

    @event.listens_for(engine, "connect")
    def made(connection: Any, _record: Any) -> None:
        for statement in _statements():
            connection.execute(statement).close()

    return engine


def _opened(url: URL) -> Engine:
    path = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
    engine = _sqlite_engine(url) if path else _server_engine(url)
    try:
        if path is None:
            if _revision(engine, url) != HEAD:
                _migrate_if_needed(engine, url)
        elif _is_settled(path):
            if _revision(engine, url) != HEAD:
                with _lock(path):
                    _migrate_if_needed(engine, url)
                    _use_wal(engine)
        else:
            with _lock(path):
                _is_settled(path)
                _migrate_if_needed(engine, url)
                _use_wal(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def to_write(engine: Engine) -> Engine:
    """The engine for transactions that write: one at a time."""
    return engine.execution_options(**{WRITE: True})


def to_read(engine: Engine) -> Engine:
    """The engine for transactions that only read: all their queries see one state, and they never wait."""
    if engine.dialect.name != "postgresql":
        return engine  # one snapshot is what SQLite gives anyway
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def close_engine(engine: Engine) -> None:
    """Close what `open_engine` opened."""
    engine.dispose()
    _ENGINES.pop(engine, None)


def _before_fork() -> None:
    """No idle connection crosses a fork: SQLite's locks, and a server's protocol, belong to one process."""
    for engine in list(_ENGINES):
        engine.dispose()


def _in_child() -> None:
    """What a thread of the parent was using is the parent's; the child never touches it."""
    for engine in list(_ENGINES):
        engine.dispose(close=False)


_ENGINES: WeakKeyDictionary[Engine, tuple[int, int] | None] = (
    WeakKeyDictionary()
)  # with the file's device and inode
os.register_at_fork(before=_before_fork, after_in_child=_in_child)


def _parse(where: str) -> URL:
    try:
        return make_url(where)
    except (exc.ArgumentError, ValueError):  # a port that is no number
        raise RegistryError(
            "ADAPTKIT_REGISTRY_URL cannot be read",
            why="it is not a database URL",
            fix="for example postgresql+psycopg://user@host/adaptkit",
        ) from None


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": busy_timeout(), "isolation_level": None},
        execution_options=_OPTIONS,
    )

    @event.listens_for(engine, "connect")
    def settings(connection: Any, _record: Any) -> None:
        bound_values(connection)
        connection.create_function(
            "lower", 1, _lower, deterministic=True
        )  # SQLite's own knows ASCII only
        # the last is what the triggers of our indexes need; some builds of SQLite have it off
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "trusted_schema=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _server_engine(url: URL) -> Engine:
    """PostgreSQL. Writers queue, as in SQLite, so that numbers are dense and no update is lost."""
    if url.get_backend_name() != "postgresql":
        return create_engine(url)
    url = url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url
    engine = create_engine(url, pool_pre_ping=True, execution_options=_OPTIONS)
    wait = round(busy_timeout() * 1000)

    @event.listens_for(engine, "connect")
    def settings(connection: Any, _record: Any) -> None:
        with (
            connection.cursor() as cursor
        ):  # the second: a laptop that sleeps in a transaction does not stop the team
            cursor.execute(
                f"SET lock_timeout = {wait}; SET idle_in_transaction_session_timeout = {2 * max(wait, 1000)}"
            )
        connection.commit()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get(WRITE):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TURN})")

    return engine


def _use_wal(engine: Engine) -> None:
    """The last step of a first opening. The file remembers it, and another program's is never changed."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode=WAL").close()
    finally:
        connection.close()


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_settled(path: Path) -> bool:
    """Whether this is a SQLite file in WAL mode, which only a finished first opening leaves behind.

    A file that is open here already is not opened again to look: closing it would drop the locks that this process
    has on it (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    if (inode := _inode(path)) is not None and inode in _ENGINES.values():
        return True
    check_plain(path)
    try:
        with path.open("rb") as file:
            start = file.read(20)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RegistryError(
            f"cannot read the registry {path}", why=error.strerror or str(error), fix="check --home"
        ) from error
    if start and not start.startswith(_MAGIC):
        raise NotARegistry(
            f"the registry {path} is not a database",
            why="it does not begin like SQLite",
            fix="check --home, or restore a backup",
        )
    return len(start) == 20 and start[18] == 2  # the file format's write version: 2 is WAL


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time; the system releases the lock when its holder dies."""
    from filelock import FileLock

    lock = FileLock(path.with_name(path.name + ".lock"), fallback_to_soft=False)
    try:
        path.parent.stat()  # filelock would make a missing folder, which may be a typing error
        lock.acquire()
    except OSError as error:
        raise RegistryError(
            f"cannot open the registry {path}",
            why=error.strerror or str(error),
            fix="adaptkit init, or check --home",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _revision(connection: Engine | Connection, url: URL) -> str | None:
    """The revision of the schema; None when the database is empty. Raises `NotARegistry` and `RegistryTooNew`."""
    if url.get_backend_name() == "sqlite":
        check_programs(connection, shown(url))
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" not in tables:
        if tables:
            raise NotARegistry(
                f"the registry {shown(url)} belongs to another program",
                why=f"it holds the tables {', '.join(sorted(tables)[:4])}",
                fix="check --home",
            )
        return None
    revision = _scalar(connection, "SELECT version_num FROM alembic_version")
    if revision is not None and revision not in _KNOWN:
        if "artifacts" not in tables:
            raise NotARegistry(
                f"the registry {shown(url)} belongs to another program",
                why=f"its schema is {revision}",
                fix="check --home",
            )
        needed = (
            _scalar(connection, "SELECT value FROM about WHERE key = 'adaptkit'")
            if "about" in tables
            else None
        )
        raise RegistryTooNew(
            f"the registry {shown(url)} was written by a newer adaptkit",
            why=f"its schema is {revision}, this version knows {HEAD}",
            fix=install_line(at_least=str(needed)) if needed else install_line(upgrade=True),
        )
    return str(revision) if revision is not None else None


def _scalar(connection: Engine | Connection, query: str) -> Any:
    if isinstance(connection, Engine):
        with connection.connect() as opened:
            return opened.execute(text(query)).scalar()
    return connection.execute(text(query)).scalar()


def _migrate_if_needed(engine: Engine, url: URL) -> None:
    with to_write(engine).begin() as connection:
        if _revision(connection, url) == HEAD:
            return
        if engine.dialect.name == "sqlite" and not inspect(connection).get_table_names():
            _make_tables(connection)
            connection.exec_driver_sql(_REVISIONS)
            connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (HEAD,))
        else:
            _migrate(connection)
        _sign(connection)


def _make_tables(connection: Connection) -> None:
    """Make in an empty SQLite database what all migrations make one after the other, in a tenth of the time."""
    for statement in _statements():
        connection.exec_driver_sql(statement)


@cache
def _statements() -> tuple[str, ...]:
    """The statements for SQLite that make the tables of the models and their indexes."""
    tables, dialect = metadata.sorted_tables, sqlite.dialect()
    made = [str(CreateTable(table).compile(dialect=dialect)) for table in tables]
    indexed = [
        str(CreateIndex(index).compile(dialect=dialect))
        for table in tables
        for index in sorted(table.indexes, key=lambda index: str(index.name))
    ]
    return (*made, *indexed, *INDEXED)


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _sign(connection: Connection) -> None:
    """Record which adaptkit made this schema, for the error message of an older one."""
    connection.execute(about.delete().where(about.c.key == "adaptkit"))
    connection.execute(about.insert().values(key="adaptkit", value=distribution()[1]))
