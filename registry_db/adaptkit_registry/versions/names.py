"""`Names`: what a name means now, what an adapter was called before, and the number of its next version."""

from __future__ import annotations

from sqlalchemy import select

from adaptkit.errors import NotFound
from adaptkit_registry.database.rows import LIVE
from adaptkit_registry.database.schema import adapters, aliases, redirects, versions
from adaptkit_registry.database.transactions import Transactions


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

    def digest_of(
        self, name: str, *, number: int | None = None, alias: str | None = None
    ) -> tuple[int, str] | None:
        """The number and digest that a name means now, in one query: a server asks for each request.

        None where there is none under this very name; `version` then looks further and says why.
        """
        query = (
            select(versions.c.number, versions.c.digest)
            .join(adapters, adapters.c.id == versions.c.adapter_id)
            .where(adapters.c.name == name, LIVE)
            .order_by(versions.c.number.desc())
            .limit(1)
        )
        if number is not None:
            query = query.where(versions.c.number == number)
        if alias is not None:
            query = query.join(aliases, aliases.c.version_id == versions.c.id).where(
                aliases.c.adapter_id == adapters.c.id, aliases.c.alias == alias
            )
        with self._reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else (row.number, row.digest)

    def next_number(self, name: str) -> int:
        """The number that the next version of a name will have, unless another process adds one first."""
        with self._reading() as connection:
            try:
                return self._adapter(connection, name).next_number
            except NotFound:
                return 1
