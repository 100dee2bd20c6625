"""`Placements`: where artifacts are stored besides this home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from adaptkit.types import Event, Placement
from adaptkit_registry.database.schema import placements, versions
from adaptkit_registry.database.transactions import Transactions, once_more

if TYPE_CHECKING:
    from collections.abc import Mapping


class Placements(Transactions):
    """Records which place stores which artifact under which number."""

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
        """Record that an artifact is stored at a place under a number."""
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
            event = Event(
                verb, subject or placement.place, placement.digest, detail or {}, actor=author
            )
            self._record(connection, event)

    def placements(self, digest: str) -> tuple[Placement, ...]:
        """The places where an artifact is stored."""
        query = select(placements).where(placements.c.digest == digest).order_by(placements.c.when)
        with self._reading() as connection:
            return tuple(
                Placement(r.place, r.number, r.digest, r.when) for r in connection.execute(query)
            )

    def all_placements(self) -> list[Placement]:
        """Every placement of an artifact that a version needs."""
        with self._reading() as connection:
            query = select(placements).where(placements.c.digest.in_(select(versions.c.digest)))
            return [
                Placement(r.place, r.number, r.digest, r.when)
                for r in connection.execute(query.order_by(placements.c.place, placements.c.number))
            ]

    @once_more
    def drop_placement(self, placement: Placement, *, author: str = "") -> None:
        """Remove a placement that does not exist any more."""
        with self._writing() as connection:
            key = (placements.c.place == placement.place) & (
                placements.c.number == placement.number
            )
            if connection.execute(placements.delete().where(key)).rowcount:
                detail = {"dropped": f"{placement.place}@{placement.number}"}
                self._record(
                    connection,
                    Event("repaired", placement.place, placement.digest, detail, actor=author),
                )
