"""`LineageQueries`: what artifacts were made from, and what was made from them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sqlalchemy import select

from adaptkit.types import Lineage, Manifest, Parent
from adaptkit_registry.database.rows import LIVE, read_manifest, read_versions, version_query
from adaptkit_registry.database.schema import artifacts, lineage, versions
from adaptkit_registry.database.transactions import Transactions

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from adaptkit.types import Version


_CHUNK = 500


class LineageQueries(Transactions):
    """Reads the parents, the children and the whole ancestry of an artifact."""

    def parents(self, digest: str) -> tuple[Parent, ...]:
        """What an artifact was made from, in the order of its recipe."""
        query = select(lineage).where(lineage.c.child == digest).order_by(lineage.c.position)
        with self._reading() as connection:
            return tuple(
                Parent(r.parent, r.weight, r.role, r.label) for r in connection.execute(query)
            )

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
                {digest, *parents, *(p.digest for edges_of in parents.values() for p in edges_of)}
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
                query = select(artifacts.c.digest, artifacts.c.manifest).where(
                    artifacts.c.digest.in_(some)
                )
                manifests |= {
                    row.digest: read_manifest(row.manifest) for row in connection.execute(query)
                }
        return Lineage(
            digest,
            {d: tuple(parents[d]) for d in digests},
            {d: tuple(named[d]) for d in digests},
            manifests,
        )

    def _children(self, connection: Connection, digest: str) -> tuple[Version, ...]:
        children = select(lineage.c.child).where(lineage.c.parent == digest)
        return tuple(
            read_versions(connection, version_query().where(versions.c.digest.in_(children), LIVE))
        )
