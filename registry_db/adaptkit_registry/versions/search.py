"""What `list` asks for, as SQL."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, or_, select

from adaptkit.types import digest_of
from adaptkit_registry.database.schema import (
    adapters,
    artifacts,
    base_levels,
    bases,
    metrics,
    redirects,
    tags,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sqlalchemy import ColumnElement, Select

    from adaptkit.types import BaseIdentity, Condition

_OPS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
    "!=": operator.ne,
}


def filtered(
    query: Select[tuple[object, ...]],
    *,
    name: str | None = None,
    team: str | None = None,
    method: str | None = None,
    level_values: Collection[str] | None = None,
    base_name: str | None = None,
    tag: str | None = None,
    rank: Condition | None = None,
    figures: Collection[Condition] = (),
    words: Collection[str] = (),
    digest: str | None = None,
    digests: Collection[str] | None = None,
    fitting: Collection[BaseIdentity] | None = None,
) -> Select[tuple[object, ...]]:
    """A query made from `version_query`, narrowed. `figures` are metrics; each of `words` must be found somewhere.

    `fitting` are bases, exactly as recorded. A word is looked for in the name, the names it had, the description, the message and the tags, whatever its case.
    """
    if name is not None:
        former = select(redirects.c.adapter_id).where(redirects.c.name == name)
        query = query.where(
            adapters.c.id.in_(
                select(adapters.c.id).where(adapters.c.name == name).union_all(former)
            )
        )
    if digest is not None:
        query = query.where(versions.c.digest == digest)
    if digests is not None:
        query = query.where(versions.c.digest.in_(digests))
    if team is not None:
        query = query.where(adapters.c.name.startswith(f"{team}/", autoescape=True))
    if method is not None:
        query = query.where(artifacts.c.method == method)
    if level_values is not None:
        query = query.where(
            artifacts.c.base_id.in_(
                select(base_levels.c.base_id).where(base_levels.c.value.in_(level_values))
            )
        )
    if base_name is not None:
        query = query.where(
            artifacts.c.base_id.in_(select(bases.c.id).where(bases.c.name == base_name))
        )
    if fitting is not None:
        keys = [digest_of(identity.to_json()) for identity in fitting]
        query = query.where(
            artifacts.c.base_id.in_(select(bases.c.id).where(bases.c.key.in_(keys)))
        )
    if tag is not None:
        query = query.where(versions.c.id.in_(select(tags.c.version_id).where(tags.c.tag == tag)))
    if rank is not None:
        query = query.where(_OPS[rank.op](artifacts.c.rank, rank.value))
    for figure in figures:
        right = (metrics.c.name == figure.name) & _OPS[figure.op](metrics.c.value, figure.value)
        query = query.where(versions.c.id.in_(select(metrics.c.version_id).where(right)))
    for word in words:
        query = query.where(_mentions(word.lower()))
    return query


def starts(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """A digest that begins so, by the column's own order: LIKE would not use SQLite's index."""
    return (column >= prefix) & (column < prefix + "\x7f")


def _mentions(word: str) -> ColumnElement[bool]:
    tagged = select(tags.c.tag).where(
        tags.c.version_id == versions.c.id, func.lower(tags.c.tag).contains(word, autoescape=True)
    )
    texts = (adapters.c.name, adapters.c.description, versions.c.message)
    return or_(
        *(func.lower(text).contains(word, autoescape=True) for text in texts),
        tagged.exists(),
        _was_called(func.lower(redirects.c.name).contains(word, autoescape=True)),
    )


def _was_called(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return adapters.c.id.in_(select(redirects.c.adapter_id).where(condition))
