"""`Events`: what happened, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import or_, select

from adaptkit.types import Event
from adaptkit_registry.database.rows import read_detail
from adaptkit_registry.database.schema import events
from adaptkit_registry.database.transactions import Transactions, once_more

if TYPE_CHECKING:
    from collections.abc import Collection


class Events(Transactions):
    """Reads the events, and records those of changes outside the database."""

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
                Event(r.verb, r.subject, r.digest, read_detail(r.detail), r.when, r.author, r.actor)
                for r in connection.execute(query)
            ]

    @once_more
    def record(self, event: Event) -> None:
        """Record something that was done outside the database."""
        with self._writing() as connection:
            self._record(connection, event)
