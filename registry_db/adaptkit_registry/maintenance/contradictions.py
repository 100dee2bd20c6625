"""`Contradictions`: what the database says against itself, for fsck."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

from adaptkit.errors import RegistryError
from adaptkit.types import Manifest
from adaptkit.types.stored_files import reader
from adaptkit_registry.database.driver_errors import database_errors
from adaptkit_registry.database.engine import to_write
from adaptkit_registry.database.indexes import rebuild_index, stale_indexes
from adaptkit_registry.database.schema import (
    adapters,
    aliases,
    artifacts,
    files,
    redirects,
    versions,
)
from adaptkit_registry.database.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from adaptkit.types.stored_files import Rows

_CUTS = ("", *(f"sha256:{digit}" for digit in "123456789abcdef"), "t")


class Contradictions(Transactions):
    """Looks for what cannot be, and repairs the indexes."""

    def problems(self) -> list[str]:
        """One line for each contradiction in the database."""
        with ThreadPoolExecutor(1) as pool:  # SQLite works outside the interpreter's lock
            damage = pool.submit(self._damage)
            found = self._contradictions()
            return damage.result() + found

    def rebuild_indexes(self) -> list[str]:
        """Make the indexes of texts anew that do not hold what the tables say; returns their names."""
        if self._absent is not None or self._engine.dialect.name != "sqlite":
            return []
        with database_errors(self._engine.url), to_write(self._engine).begin() as connection:
            stale = stale_indexes(connection)
            for index in stale:
                rebuild_index(connection, index)
            return stale

    def _damage(self) -> list[str]:
        """What SQLite itself says of its file."""
        with self._reading() as connection:
            if connection.dialect.name != "sqlite":
                return []
            report = connection.execute(text("PRAGMA integrity_check")).scalars().all()
            problems = [f"SQLite's integrity check says: {line}" for line in report if line != "ok"]
            problems += [
                f"a row of {row[0]} points at a row of {row[2]} that does not exist"
                for row in connection.execute(text("PRAGMA foreign_key_check"))
            ]
        return problems + self._stale()

    def _stale(self) -> list[str]:
        """Which indexes of texts are stale; SQLite looks only for those who may write."""
        if self._absent is not None:
            return []
        try:
            with database_errors(self._engine.url), to_write(self._engine).begin() as connection:
                stale = stale_indexes(connection)
        except RegistryError as error:
            if "read-only" in error.why:
                return []
            raise
        return [
            f"the index '{index}' does not hold what its table says, so that list WORD may miss some: adaptkit fsck --repair"
            for index in stale
        ]

    def _contradictions(self) -> list[str]:
        """What the rows say against each other."""
        problems = []
        with self._reading() as connection:
            query = (
                select(adapters.c.name, aliases.c.alias, versions.c.number)
                .select_from(aliases)
                .join(versions, versions.c.id == aliases.c.version_id)
                .join(adapters, adapters.c.id == aliases.c.adapter_id)
            )
            problems += [
                f"{name}@{alias} points at {name}@{number}, which is in the trash: adaptkit restore {name}@{number}"
                for name, alias, number in connection.execute(
                    query.where(versions.c.deleted.is_not(None))
                )
            ]
            highest = (
                select(adapters.c.name, adapters.c.next_number, func.max(versions.c.number))
                .join(versions, versions.c.adapter_id == adapters.c.id)
                .group_by(adapters.c.id, adapters.c.name, adapters.c.next_number)
                .having(func.max(versions.c.number) >= adapters.c.next_number)
            )
            problems += [
                f"{name} would give the number {after} again, and has {top} already: see registry export"
                for name, after, top in connection.execute(highest)
            ]
            both = select(adapters.c.name).join(redirects, redirects.c.name == adapters.c.name)
            problems += [
                f"'{name}' is the name of one adapter and the former name of another"
                for name in connection.execute(both).scalars()
            ]
            problems += _artifact_problems(connection)
        return problems


def _artifact_problems(connection: Connection) -> Iterator[str]:
    """Manifests that cannot be read, or do not agree with the rows of their files."""
    read = reader()
    for start, end in pairwise((*_CUTS, None)):  # a part at a time, so that memory is bounded
        query = select(artifacts.c.digest, artifacts.c.manifest)
        listing = select(files.c.digest, files.c.path, files.c.size, files.c.sha256)
        some, listed = (
            connection.execute(
                all_of.where(column >= start)
                if end is None
                else all_of.where(column >= start, column < end)
            )
            for all_of, column in ((query, artifacts.c.digest), (listing, files.c.digest))
        )
        rows: dict[str, Rows] = {}
        for digest, *row in listed:
            rows.setdefault(digest, set()).add(tuple(row))
        for digest, stored in some:
            if read(stored) != (digest, rows.get(digest, set())):
                yield from _problem(digest, stored, rows.get(digest, set()))


def _problem(digest: str, stored: str, listed: Rows) -> Iterator[str]:
    try:
        manifest = Manifest.from_json(json.loads(stored))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"the manifest of {digest[:19]}… in the registry cannot be read: {error}"
        return
    entries = {(f.path, f.size, f.sha256) for f in manifest.files + manifest.extras}
    if manifest.digest != digest or entries != listed:
        yield f"the rows of {digest[:19]}… do not agree with its manifest"
