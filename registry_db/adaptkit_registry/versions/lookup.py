"""`Lookup`: versions by name, number, alias, digest, and by what `list` asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from adaptkit.errors import BadReference, NotFound
from adaptkit_registry.database.rows import (
    HIGHEST,
    HIGHEST_OF_ALL,
    LIVE,
    read_versions,
    version_query,
)
from adaptkit_registry.database.schema import adapters, aliases, versions
from adaptkit_registry.database.transactions import Transactions
from adaptkit_registry.versions.search import filtered, starts
from adaptkit_registry.versions.words import narrowed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.types import Version


_FEW = ("name", "digest", "digests", "level_values", "base_name", "fitting", "tag", "figures")
"""Filters that have an index, and leave few versions."""


class Lookup(Transactions):
    """Finds versions."""

    def refs_of(self, digest: str) -> tuple[str, ...]:
        """What the live versions of a digest are called, oldest first."""
        query = (
            select(adapters.c.name, versions.c.number)
            .join(adapters, adapters.c.id == versions.c.adapter_id)
            .where(versions.c.digest == digest, LIVE)
            .order_by(versions.c.id)
        )
        with self._reading() as connection:
            return tuple(f"{name}@{number}" for name, number in connection.execute(query))

    def version(
        self,
        name: str,
        *,
        number: int | None = None,
        alias: str | None = None,
        digest: str | None = None,
    ) -> Version:
        """One live version: by number, alias or digest prefix, else the highest number."""
        with self._reading() as connection:
            adapter_id, name, *_ = self._adapter(connection, name)
            query = (
                version_query()
                .where(versions.c.adapter_id == adapter_id, LIVE)
                .order_by(versions.c.number.desc())
            )
            if number is not None:
                query = query.where(versions.c.number == number)
            elif alias is not None:
                query = query.join(aliases, aliases.c.version_id == versions.c.id).where(
                    aliases.c.adapter_id == adapter_id, aliases.c.alias == alias
                )
            elif digest is not None:
                query = query.where(starts(versions.c.digest, digest))
                found = read_versions(connection, query)
                if len({version.digest for version in found}) > 1:
                    raise _ambiguous(digest, found)
            found = read_versions(connection, query.limit(1))
            if not found:
                raise self._missing(connection, adapter_id, name, number, alias, digest)
            return found[0]

    def find_digest(self, prefix: str) -> tuple[Version, ...]:
        """Every live version of the one digest that starts so, oldest first."""
        with self._reading() as connection:
            query = version_query().where(starts(versions.c.digest, prefix), LIVE)
            found = read_versions(connection, query.order_by(versions.c.id))
        if not found:
            raise NotFound(
                "artifact with digest",
                prefix,
                (),
                fix="adaptkit list --all --json shows the digests",
            )
        if len({version.digest for version in found}) > 1:
            raise _ambiguous(prefix, found)
        return tuple(found)

    def versions(self, **filters: Any) -> list[Version]:
        """All live versions by name and number; filters are those of `search.filtered`."""
        return self._search(filters)

    def latest_versions(self, **filters: Any) -> list[Version]:
        """The highest live version of each name; filters as for `versions`."""
        return self._search(filters, latest=True)

    def _search(self, filters: dict[str, Any], *, latest: bool = False) -> list[Version]:
        everything = filtered(version_query().where(LIVE), **filters)
        with self._reading() as connection:
            query = narrowed(connection, everything, filters.get("words", ()), latest=latest)
            if latest:
                few = query is not everything or any(map(filters.get, _FEW))
                query = query.where(HIGHEST if few else HIGHEST_OF_ALL)
            return read_versions(connection, query.order_by(adapters.c.name, versions.c.number))


def _ambiguous(prefix: str, found: Sequence[Version]) -> BadReference:
    listed = ", ".join(f"{v.ref} is {v.digest[:23]}…" for v in found[:4])
    return BadReference(
        f"'{prefix}' is the start of several digests", why=listed, fix="type more digits"
    )
