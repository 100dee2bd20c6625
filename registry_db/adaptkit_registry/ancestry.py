"""`Ancestry`: where artifacts come from, all the way back."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from adaptkit.types import Lineage, Manifest, Parent
from adaptkit_registry.ledger import Ledger
from adaptkit_registry.rows import LIVE, read_versions, version_query
from adaptkit_registry.schema import artifacts, lineage, redirects, versions

if TYPE_CHECKING:
    from adaptkit.types import Version


_CHUNK = 500


class Ancestry(Ledger):
    """Reads lineage: one query for all the edges, however deep."""

    def lineage(self, digest: str) -> Lineage:
        """Every ancestor of an artifact, also those that are known elsewhere only."""
        above = (
            select(lineage.c.child, lineage.c.parent)
            .where(lineage.c.child == digest)
            .cte(recursive=True)
        )
        above = above.union(
            select(lineage.c.child, lineage.c.parent).join(above, lineage.c.child == above.c.parent)
        )
        parents: dict[str, list[Parent]] = defaultdict(list)
        named: dict[str, list[Version]] = defaultdict(list)
        with self._reading() as connection:
            edges = select(lineage).where(lineage.c.child.in_(select(above.c.child)))
            for row in connection.execute(edges.order_by(lineage.c.child, lineage.c.position)):
                parents[row.child].append(Parent(row.parent, row.weight, row.role, row.label))
            digests = sorted(
                {digest, *parents, *(p.digest for found in parents.values() for p in found)}
            )
            manifests: dict[str, Manifest] = {}
            for start in range(
                0, len(digests), _CHUNK
            ):  # by value: a planner cannot guess how few they are
                some = digests[start : start + _CHUNK]
                query = (
                    version_query().where(versions.c.digest.in_(some), LIVE).order_by(versions.c.id)
                )
                for version in read_versions(connection, query):
                    named[version.digest].append(version)
                told = select(artifacts.c.digest, artifacts.c.manifest).where(
                    artifacts.c.digest.in_(some)
                )
                manifests |= {
                    row.digest: Manifest.from_json(json.loads(row.manifest))
                    for row in connection.execute(told)
                }
        return Lineage(
            digest,
            {d: tuple(parents[d]) for d in digests},
            {d: tuple(named[d]) for d in digests},
            manifests,
        )

    def former_names(self, name: str) -> tuple[str, ...]:
        """What an adapter was called before, oldest first."""
        with self._reading() as connection:
            found = self._adapter(connection, name)
            query = select(redirects.c.name).where(redirects.c.adapter_id == found.id)
            return tuple(
                old
                for (old,) in connection.execute(query.order_by(redirects.c.when, redirects.c.name))
            )

    def next_number(self, name: str) -> int:
        """The number that the next version of a name will have, unless somebody is faster."""
        from adaptkit.errors import NotFound

        with self._reading() as connection:
            try:
                return self._adapter(connection, name).next_number
            except NotFound:
                return 1

    def count(self) -> int:
        """How many live versions there are."""
        with self._reading() as connection:
            return int(
                connection.execute(
                    select(func.count()).select_from(versions).where(LIVE)
                ).scalar_one()
            )
