"""`Garbage`: what gc keeps, and what it purges."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from adaptkit.types import Event
from adaptkit_registry.database.checked import DamagedRow
from adaptkit_registry.database.rows import (
    LIVE,
    read_detail,
    read_manifest,
    read_versions,
    version_query,
)
from adaptkit_registry.database.schema import (
    artifacts,
    events,
    files,
    lineage,
    metrics,
    tags,
    versions,
)
from adaptkit_registry.database.transactions import Transactions, once_more

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sqlalchemy import ColumnElement, Connection

    from adaptkit.types import Manifest, Version


class Garbage(Transactions):
    """What versions need, and what none needs any more."""

    def kept(self) -> tuple[set[str], set[str]]:
        """Every artifact of a version that lives or can be restored, and the sha256 of every file of theirs.

        So is what was corrected since, such as the first README.md: a place that loses it gets it back from here.
        """
        with self._reading() as connection:
            digests = _all(connection, versions.c.digest, "sha256:")
            former = _former(connection, digests)
            known = select(func.count()).select_from(artifacts)
            if connection.execute(known).scalar() == len(digests):  # no other has files, then
                return digests, _all(connection, files.c.sha256) | former
            used = select(versions.c.digest)
            query = select(files.c.sha256).where(files.c.digest.in_(used))
            return digests, set(connection.execute(query).scalars()) | former

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
                with suppress(DamagedRow):  # `problems` reports those
                    yield read_manifest(row.manifest), row.alive

    def purgeable(self, before: str) -> list[Version]:
        """What has been in the trash since before that time."""
        return self._list(version_query().where(versions.c.deleted < before))

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


def _former(connection: Connection, digests: Collection[str]) -> set[str]:
    """The sha256 of each file that was replaced by a corrected one."""
    query = select(events.c.digest, events.c.detail).where(events.c.verb == "corrected")
    found: set[str] = set()
    for digest, detail in connection.execute(query):
        if digest in digests:
            found.update(read_detail(detail).get("was", {}).values())
    return found


def _all(connection: Connection, column: ColumnElement[str], prefix: str = "") -> set[str]:
    """Every value of an indexed column of digests: long rows of many cost much less than a row for each."""
    found: set[str] = set()
    for start, end in pairwise(("", *(f"{prefix}{digit}" for digit in "123456789abcdef"), None)):
        query = select(func.aggregate_strings(column, " ")).where(column >= start)
        values = connection.execute(query if end is None else query.where(column < end)).scalar()
        found.update((values or "").split())
    return found
