"""`Maintenance`: what gc keeps, what it purges, contradictions in the database, and counts."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import distinct, func, select, text

from adaptkit.types import Event, Manifest
from adaptkit.types.stored_files import reader
from adaptkit_registry.database.rows import LIVE, read_versions, version_query
from adaptkit_registry.database.schema import (
    adapters,
    alias_moves,
    aliases,
    artifacts,
    bases,
    events,
    files,
    lineage,
    metrics,
    placements,
    redirects,
    tags,
    versions,
)
from adaptkit_registry.database.transactions import Transactions, once_more

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection

    from adaptkit.types import Version
    from adaptkit.types.stored_files import Rows


class Maintenance(Transactions):
    """Operations on the database as a whole."""

    def kept(self) -> tuple[set[str], set[str]]:
        """Every artifact of a version that lives or can be restored, and the sha256 of every file of theirs."""
        used = select(versions.c.digest)
        # Few artifacts have no version, so that asking for their files' absence costs least.
        unused = select(artifacts.c.digest).where(artifacts.c.digest.not_in(used))
        with self._reading() as connection:
            digests = set(connection.execute(used).scalars())
            query = select(files.c.sha256).where(files.c.digest.not_in(unused))
            return digests, set(connection.execute(query).scalars())

    def manifests(self) -> Iterator[tuple[Manifest, bool]]:
        """The manifest of every artifact that a version needs, and whether one of them lives."""
        alive = select(versions.c.digest).where(LIVE)
        query = select(artifacts.c.manifest, artifacts.c.digest.in_(alive).label("alive")).order_by(
            artifacts.c.digest
        )
        with self._reading() as connection:
            for row in connection.execute(
                query.where(artifacts.c.digest.in_(select(versions.c.digest)))
            ):
                with suppress(
                    ValueError, KeyError, TypeError, AttributeError
                ):  # `problems` reports those
                    yield Manifest.from_json(json.loads(row.manifest)), row.alive

    def purgeable(self, before: str) -> list[Version]:
        """What has been in the trash since before that time."""
        return self._list(version_query().where(versions.c.deleted < before), live=False)

    @once_more
    def purge(self, before: str, *, author: str = "") -> list[Version]:
        """Delete what has been in the trash since before that time; its numbers are never used again."""
        with self._writing() as connection:
            purged = read_versions(connection, version_query().where(versions.c.deleted < before))
            ids = select(versions.c.id).where(versions.c.deleted < before).scalar_subquery()
            for table in (tags, metrics):
                connection.execute(table.delete().where(table.c.version_id.in_(ids)))
            connection.execute(versions.delete().where(versions.c.deleted < before))
            lost = {v.digest for v in purged} - set(
                connection.execute(
                    select(versions.c.digest).where(
                        versions.c.digest.in_({v.digest for v in purged})
                    )
                ).scalars()
            )
            if lost:
                connection.execute(files.delete().where(files.c.digest.in_(lost)))
                connection.execute(lineage.delete().where(lineage.c.child.in_(lost)))
                connection.execute(artifacts.delete().where(artifacts.c.digest.in_(lost)))
            for version in purged:
                self._record(connection, Event("purged", version.ref, version.digest, actor=author))
            return purged

    def counts(self) -> dict[str, int]:
        """The number of rows of each kind."""
        with self._reading() as connection:
            return {
                "adapters": _count(
                    connection, select(func.count(distinct(versions.c.adapter_id))).where(LIVE)
                ),
                "versions": _count(
                    connection, select(func.count()).select_from(versions).where(LIVE)
                ),
                "in_trash": _count(
                    connection, select(func.count()).where(versions.c.deleted.is_not(None))
                ),
                "artifacts": _count(connection, select(func.count()).select_from(artifacts)),
                "bases": _count(connection, select(func.count()).select_from(bases)),
                "aliases": _count(connection, select(func.count()).select_from(aliases)),
                "alias_moves": _count(connection, select(func.count()).select_from(alias_moves)),
                "placements": _count(connection, select(func.count()).select_from(placements)),
                "events": _count(connection, select(func.count()).select_from(events)),
            }

    def sizes(self) -> Mapping[str, int]:
        """Bytes of the different files that the live versions of each team have; '' is names without a team."""
        query = (
            select(adapters.c.name, files.c.sha256, files.c.size)
            .join(versions, versions.c.adapter_id == adapters.c.id)
            .join(files, files.c.digest == versions.c.digest)
            .where(LIVE)
            .distinct()
        )
        teams: dict[str, dict[str, int]] = {}
        with self._reading() as connection:
            for name, sha256, size in connection.execute(query):
                teams.setdefault(name.rpartition("/")[0], {})[sha256] = size
        return {team: sum(blobs.values()) for team, blobs in sorted(teams.items())}

    def problems(self) -> list[str]:
        """One line for each contradiction in the database."""
        with ThreadPoolExecutor(1) as pool:  # SQLite works outside the interpreter's lock
            damage = pool.submit(self._damage)
            found = self._contradictions()
            return damage.result() + found

    def _damage(self) -> list[str]:
        """What SQLite itself says of its file."""
        with self._reading() as connection:
            if connection.dialect.name != "sqlite":
                return []
            report = connection.execute(text("PRAGMA integrity_check")).scalars().all()
            problems = [f"SQLite's integrity check says: {line}" for line in report if line != "ok"]
            return problems + [
                f"a row of {row[0]} points at a row of {row[2]} that does not exist"
                for row in connection.execute(text("PRAGMA foreign_key_check"))
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
            )
            problems += [
                f"{name} would give the number {after} again, and has {top} already: see registry export"
                for name, after, top in connection.execute(highest)
                if after <= top
            ]
            both = select(adapters.c.name).join(redirects, redirects.c.name == adapters.c.name)
            problems += [
                f"'{name}' is the name of one adapter and the former name of another"
                for name in connection.execute(both).scalars()
            ]
            problems += _artifact_problems(connection)
        return problems


def _artifact_problems(connection: Connection) -> list[str]:
    """Manifests that cannot be read, or do not agree with the rows of their files."""
    listed: dict[str, Rows] = {}
    query = select(files.c.digest, files.c.path, files.c.size, files.c.sha256)
    for digest, *row in connection.execute(query):
        listed.setdefault(digest, set()).add(tuple(row))
    read, problems = reader(), []
    for digest, stored in connection.execute(select(artifacts.c.digest, artifacts.c.manifest)):
        if read(stored) != (digest, listed.get(digest, set())):
            problems += _problem(digest, stored, listed.get(digest, set()))
    return problems


def _problem(digest: str, stored: str, listed: Rows) -> list[str]:
    try:
        manifest = Manifest.from_json(json.loads(stored))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"the manifest of {digest[:19]}… in the registry cannot be read: {error}"]
    entries = {(f.path, f.size, f.sha256) for f in manifest.files + manifest.extras}
    if manifest.digest != digest or entries != listed:
        return [f"the rows of {digest[:19]}… do not agree with its manifest"]
    return []


def _count(connection: Connection, query: object) -> int:
    return int(connection.execute(query).scalar_one())  # type: ignore[call-overload]
