"""`Names`: the former names of an adapter, and the number of its next version."""

from __future__ import annotations

from sqlalchemy import select

from adaptkit.errors import NotFound
from adaptkit_registry.schema import redirects
from adaptkit_registry.transactions import Transactions


class Names(Transactions):
    """What an adapter is and was called, and how it is numbered."""

    def former_names(self, name: str) -> tuple[str, ...]:
        """What an adapter was called before, oldest first."""
        with self._reading() as connection:
            adapter = self._adapter(connection, name)
            query = select(redirects.c.name).where(redirects.c.adapter_id == adapter.id)
            return tuple(
                old
                for (old,) in connection.execute(query.order_by(redirects.c.when, redirects.c.name))
            )

    def next_number(self, name: str) -> int:
        """The number that the next version of a name will have, unless another process adds one first."""
        with self._reading() as connection:
            try:
                return self._adapter(connection, name).next_number
            except NotFound:
                return 1
