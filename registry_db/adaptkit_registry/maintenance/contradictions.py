"""`Contradictions`: what the database says against itself, for fsck."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from adaptkit.errors import RegistryError, RegistryLocked
from adaptkit_registry.database.checked import DamagedRow, unchecked
from adaptkit_registry.database.driver_errors import database_errors
from adaptkit_registry.database.engine import to_write
from adaptkit_registry.database.indexes import rebuild_index, stale_indexes
from adaptkit_registry.database.rows import read_manifest
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

    from sqlalchemy import ColumnElement, Connection, Select

    from adaptkit.types.checks.stored_files import Rows

_AT_ONCE = 200_000  # artifacts; of more a part at a time, so that memory is bounded
_CUTS = tuple(f"sha256:{digit}" for digit in "123456789abcdef")
_CACHE = 256 * 1024  # KiB: the index of a table is compared with it in no order


class Contradictions(Transactions):
    """Looks for what cannot be, and repairs the indexes."""

    def problems(self) -> list[str]:
        """One line for each contradiction in the database."""
        if self._absent is not None or self._engine.dialect.name != "sqlite":
            return self._contradictions()
        with ThreadPoolExecutor(2) as pool:  # SQLite works outside the interpreter's lock
            damage, others = pool.submit(self._damage), pool.submit(self._dangling)
            found = self._contradictions()
            return damage.result() + others.result() + found

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
            usual = connection.exec_driver_sql("PRAGMA cache_size").scalar()
            connection.exec_driver_sql(f"PRAGMA cache_size = -{_CACHE}")
            report = connection.execute(text("PRAGMA integrity_check")).scalars().all()
            connection.exec_driver_sql(f"PRAGMA cache_size = {usual}")
        return [f"SQLite's integrity check says: {line}" for line in report if line != "ok"]

    def _dangling(self) -> list[str]:
        """Rows that point nowhere, and indexes of texts that are stale."""
        with self._reading() as connection:
            pointing = connection.execute(text("PRAGMA foreign_key_check")).all()
        return [
            f"a row of {row[0]} points at a row of {row[2]} that does not exist" for row in pointing
        ] + self._stale()

    def _stale(self) -> list[str]:
        """Which indexes of texts are stale.

        SQLite looks only for those who may write: a read-only file, or one that others keep locked, is not looked at.
        """
        try:
            with database_errors(self._engine.url), to_write(self._engine).begin() as connection:
                stale = stale_indexes(connection)
        except RegistryLocked:
            return []
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
    from adaptkit.types.checks.stored_files import reader  # what it decodes takes time to define

    read = reader()
    manifests = select(unchecked(artifacts.c.digest), unchecked(artifacts.c.manifest))
    listing = select(*map(unchecked, files.c))
    known = connection.execute(select(func.count()).select_from(artifacts)).scalar() or 0
    cuts = _CUTS if known > _AT_ONCE else ()
    edges: list[str | None] = [None, *cuts, None]
    for start, end in pairwise(edges):
        rows: dict[str, Rows] = {}
        for digest, path, size, sha256 in connection.execute(
            _between(listing, files.c.digest, start, end)
        ):
            row = (path, size, sha256)
            if digest in rows:
                rows[digest].append(row)
            else:
                rows[digest] = [row]
        for digest, stored in connection.execute(
            _between(manifests, artifacts.c.digest, start, end)
        ):
            listed = rows.get(digest, [])
            if read(stored) != (digest, listed):
                yield from _problem(digest, stored, set(listed))


def _between(
    query: Select[Any], digest: ColumnElement[str], start: str | None, end: str | None
) -> Select[Any]:
    """Only digests from `start` to before `end`; without either, the table is read as it lies, which is quicker."""
    query = query if start is None else query.where(digest >= start)
    return query if end is None else query.where(digest < end)


def _problem(digest: object, stored: object, listed: set[tuple[str, int, str]]) -> Iterator[str]:
    if not isinstance(digest, str) or not isinstance(stored, str):
        yield f"a row of artifacts is not as adaptkit writes them: {digest!r:.40} is what it calls itself"
        return
    try:
        manifest = read_manifest(stored)
    except DamagedRow as error:
        yield f"the manifest of {digest[:19]}… in the registry cannot be read: {error}"
        return
    entries = {(f.path, f.size, f.sha256) for f in manifest.files + manifest.extras}
    if manifest.digest != digest or entries != listed:
        yield f"the rows of {digest[:19]}… do not agree with its manifest"
