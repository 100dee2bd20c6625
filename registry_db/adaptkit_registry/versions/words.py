"""Where the words that `list` is given may be, by the index of texts; whether they are there is compared afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import exc, func, or_, select

from adaptkit_registry.database.indexes import SHORTEST, is_damage, rows_with
from adaptkit_registry.database.schema import adapters, versions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import Connection, Select

_MOST = 500
"""Rows that hold a word; where there are more, it is as quick to compare all."""


def narrowed(
    connection: Connection,
    query: Select[tuple[object, ...]],
    words: Collection[str],
    *,
    latest: bool,
) -> Select[tuple[object, ...]]:
    """The query on those versions only that may hold the rarest of the words, where an index says which.

    `latest`: the query is for the highest version of each adapter anyway.
    """
    if connection.dialect.name != "sqlite":
        return query
    found = [holders for word in words if (holders := _holders(connection, word.lower()))]
    if not found:
        return query
    in_adapters, in_versions = min(found, key=lambda pair: len(pair[0]) + len(pair[1]))
    if latest:  # of few adapters, by their numbers
        of_versions = select(versions.c.adapter_id).where(versions.c.id.in_(_these(in_versions)))
        return query.where(adapters.c.id.in_(_these(in_adapters).union(of_versions)))
    return query.where(
        or_(
            versions.c.adapter_id.in_(_these(in_adapters)),
            versions.c.id.in_(_these(in_versions)),
        )
    )


def _holders(connection: Connection, word: str) -> tuple[list[int], list[int]] | None:
    """The ids of the adapters and of the versions that may hold a word; None where they are many, or the index is damaged."""
    if len(word) < SHORTEST or "\0" in word:
        return None
    found = []
    for index in ("adapter_words", "version_words"):
        try:
            found.append(rows_with(connection, index, word, _MOST + 1))
        except exc.DatabaseError as error:
            if not is_damage(error):
                raise
            return None  # fsck names it and builds it again
        if len(found[-1]) > _MOST:
            return None
    return found[0], found[1]


def _these(ids: Iterable[int]) -> Select[tuple[int]]:
    """Ids as one parameter, however many they are."""
    return select(func.json_each(json.dumps(list(ids))).table_valued("value").c.value)
