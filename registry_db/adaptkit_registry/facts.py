"""`Facts`: lineage, placements, bases and events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from adaptkit.types import Event, Parent, Placement
from adaptkit_registry.ledger import Ledger, once_more
from adaptkit_registry.schema import (
    events,
    lineage,
    placements,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from adaptkit.types import Version


class Facts(Ledger):
    """What is known of artifacts, whoever calls them what."""

    def parents(self, digest: str) -> tuple[Parent, ...]:
        """What an artifact was made from, in the order of its recipe."""
        query = select(lineage).where(lineage.c.child == digest).order_by(lineage.c.position)
        with self._reading() as connection:
            return tuple(
                Parent(r.parent, r.weight, r.role, r.label) for r in connection.execute(query)
            )

    def children(self, digest: str) -> tuple[Version, ...]:
        """The live versions that were made from an artifact."""
        with self._reading() as connection:
            return self._children(connection, digest)

    @once_more
    def record_placement(
        self,
        placement: Placement,
        *,
        author: str = "",
        detail: Mapping[str, Any] | None = None,
        subject: str = "",
        verb: str = "published",
    ) -> None:
        """Remember that an artifact lies at a place under a number."""
        with self._writing() as connection:
            key = (placements.c.place == placement.place) & (
                placements.c.number == placement.number
            )
            connection.execute(placements.delete().where(key))
            connection.execute(
                placements.insert().values(
                    place=placement.place,
                    number=placement.number,
                    digest=placement.digest,
                    when=placement.when,
                )
            )
            told = Event(
                verb, subject or placement.place, placement.digest, detail or {}, author=author
            )
            self._record(connection, told)

    def placements(self, digest: str) -> tuple[Placement, ...]:
        """Where else an artifact lies."""
        query = select(placements).where(placements.c.digest == digest).order_by(placements.c.when)
        with self._reading() as connection:
            return tuple(
                Placement(r.place, r.number, r.digest, r.when) for r in connection.execute(query)
            )

    def events(self, *, limit: int | None = None, names: Collection[str] = ()) -> list[Event]:
        """What happened, newest first; with `names`, only to adapters that are or were called so."""
        query = select(events).order_by(events.c.id.desc()).limit(limit)
        if names:
            about = [
                (events.c.subject == n) | events.c.subject.startswith(f"{n}@", autoescape=True)
                for n in names
            ]
            query = query.where(or_(*about))
        with self._reading() as connection:
            return [
                Event(r.verb, r.subject, r.digest, json.loads(r.detail), r.when, r.author)
                for r in connection.execute(query)
            ]
