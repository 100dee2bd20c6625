"""`Statistics`: how many rows of each kind there are, and how many bytes each team has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import distinct, func, select

from adaptkit_registry.database.rows import LIVE
from adaptkit_registry.database.schema import (
    adapters,
    alias_moves,
    aliases,
    artifacts,
    bases,
    events,
    files,
    placements,
    versions,
)
from adaptkit_registry.database.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection


class Statistics(Transactions):
    """Numbers for `info` and quotas."""

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


def _count(connection: Connection, query: object) -> int:
    return int(connection.execute(query).scalar_one())  # type: ignore[call-overload]
