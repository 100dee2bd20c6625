"""Opening the database: settings, first schema, migrations, and the sentence for whatever goes wrong.

Notable choices:
- SQLite in WAL with synchronous=FULL, foreign keys and a 30 s busy timeout; writers `BEGIN IMMEDIATE`
  (deferred ones lose most of their work to "database is locked"), readers `BEGIN`
- an up-to-date database costs one query; alembic (0.6 s to import) is loaded only to migrate
- the first opening, and a migration, happen inside a lock file: journal_mode cannot be changed in a transaction
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, create_engine, event, exc, inspect, make_url, text

from adaptkit.errors import NotARegistry, RegistryError, RegistryLocked, RegistryTooNew

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

HEAD = "0001"
WRITE = "adaptkit_write"  # execution option of transactions that will write
_KNOWN = frozenset({HEAD})
_MIGRATIONS = Path(__file__).parent / "migrations"
_MAGIC = b"SQLite format 3\x00"


def open_engine(where: str | Path) -> Engine:
    """An engine on an up-to-date database, made or migrated if need be. `where` is a URL, or a path for SQLite."""
    url = URL.create("sqlite", database=str(where)) if isinstance(where, Path) else _parse(where)
    with explained(url):
        if url.get_backend_name() != "sqlite" or not url.database:
            engine = create_engine(url)
            try:
                _migrate_if_needed(engine, url)
            except BaseException:
                engine.dispose()
                raise
            return engine
        path = Path(url.database)
        engine = _sqlite_engine(url)
        try:
            if _is_settled(path):
                if _revision(engine, url) != HEAD:
                    with _lock(path):
                        _migrate_if_needed(engine, url)
            else:
                with _lock(path):
                    _is_settled(path)
                    _migrate_if_needed(engine, url)
                    _use_wal(engine)
        except BaseException:
            engine.dispose()
            raise
    return engine


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn what the database driver raises inside the block into a sentence; a password is never shown."""
    try:
        yield
    except (exc.NoSuchModuleError, ImportError) as error:
        raise RegistryError(f"cannot open the registry {_shown(url)}", why=f"no driver for '{url.drivername}'",
                            fix="pip install 'adaptkit[postgres]' for postgresql+psycopg://…") from error  # fmt: skip
    except exc.DBAPIError as error:
        raise _sentence(url, str(error.orig)) from error
    except exc.SQLAlchemyError as error:
        raise RegistryError(f"the registry {_shown(url)} failed", why=str(error).splitlines()[0]) from error


def _sentence(url: URL, said: str) -> RegistryError:
    what, low = f"the registry {_shown(url)}", said.lower()
    if "locked" in low or "busy" in low:
        return RegistryLocked(f"{what} is locked", why=f"another process held it for more than {_timeout():g} s",
                              fix="try again; if no other adaptkit runs, look for a process that is stuck")  # fmt: skip
    if "not a database" in low or "malformed" in low:
        return NotARegistry(f"{what} is not a database", why=said, fix="check --home, or restore a backup")
    if "full" in low:
        return RegistryError(f"cannot write {what}", why="disk full", fix="free some space, then try again")
    if "readonly" in low or "read-only" in low:
        return RegistryError(f"cannot write {what}", why="it is read-only", fix="check who owns the file")
    if "unable to open" in low:
        return RegistryError(f"cannot open {what}", why="its folder is missing or cannot be written",
                             fix="adaptkit init, or check --home")  # fmt: skip
    return RegistryError(f"{what} failed", why=said.splitlines()[0])


def _parse(where: str) -> URL:
    try:
        return make_url(where)
    except (exc.ArgumentError, ValueError):  # a port that is no number
        raise RegistryError("ADAPTKIT_REGISTRY_URL cannot be read", why="it is not a database URL",
                            fix="for example postgresql+psycopg://user@host/adaptkit") from None  # fmt: skip


def _shown(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return url.database or ":memory:"
    return url.render_as_string(hide_password=True)


def _timeout() -> float:
    said = os.environ.get("ADAPTKIT_BUSY_TIMEOUT", "30")
    try:
        return float(said)
    except ValueError:
        raise RegistryError(f"ADAPTKIT_BUSY_TIMEOUT is '{said}'", why="it is a number of seconds",
                            fix="for example ADAPTKIT_BUSY_TIMEOUT=30") from None  # fmt: skip


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": _timeout(), "isolation_level": None})

    @event.listens_for(engine, "connect")
    def settings(connection: Any, _record: Any) -> None:
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _use_wal(engine: Engine) -> None:
    """The last step of a first opening. The file remembers it, and another program's is never changed."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("PRAGMA journal_mode=WAL").close()
    finally:
        connection.close()


def _is_settled(path: Path) -> bool:
    """Whether this is a SQLite file in WAL mode, which only a finished first opening leaves behind."""
    try:
        with path.open("rb") as file:
            start = file.read(20)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RegistryError(f"cannot read the registry {path}", why=error.strerror or str(error),
                            fix="check --home") from error  # fmt: skip
    if start and not start.startswith(_MAGIC):
        raise NotARegistry(f"the registry {path} is not a database", why="it does not begin like SQLite",
                           fix="check --home, or restore a backup")  # fmt: skip
    return len(start) == 20 and start[18] == 2  # the file format's write version: 2 is WAL


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    import fcntl

    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RegistryError(f"cannot open the registry {path}", why=error.strerror or str(error),
                            fix="adaptkit init, or check --home") from error  # fmt: skip
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # given back by the system if we die
        yield
    finally:
        os.close(descriptor)


def _revision(connection: Engine | Connection, url: URL) -> str | None:
    """The schema that is there; None when there is nothing. `NotARegistry` and `RegistryTooNew` otherwise."""
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" not in tables:
        if tables:
            raise NotARegistry(f"the registry {_shown(url)} belongs to another program",
                               why=f"it holds the tables {', '.join(sorted(tables)[:4])}", fix="check --home")  # fmt: skip
        return None
    query = text("SELECT version_num FROM alembic_version")
    if isinstance(connection, Engine):
        with connection.connect() as opened:
            found = opened.execute(query).scalar()
    else:
        found = connection.execute(query).scalar()
    if found is not None and found not in _KNOWN:
        if "artifacts" not in tables:
            raise NotARegistry(f"the registry {_shown(url)} belongs to another program", why=f"its schema is {found}",
                               fix="check --home")  # fmt: skip
        raise RegistryTooNew(f"the registry {_shown(url)} was written by a newer adaptkit",
                             why=f"its schema is {found}, this version knows {HEAD}", fix="pip install -U adaptkit")  # fmt: skip
    return str(found) if found is not None else None


def _migrate_if_needed(engine: Engine, url: URL) -> None:
    with engine.execution_options(**{WRITE: True}).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(4151402077)"))
        if _revision(connection, url) == HEAD:
            return
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
