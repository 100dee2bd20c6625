"""Aliases of versions, and names of adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import NotFound, Refused
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.reviews import review_move

if TYPE_CHECKING:
    from adaptkit.types import AliasMove
    from adaptkit.workspace.context.context import Context


def move_alias(
    context: Context,
    name: str,
    alias: str,
    number: int | None,
    *,
    expect: int | None = -1,
    confirmed: bool = False,
) -> AliasMove:
    """Point an alias at a version (None drops it).

    `expect` (a number, or None for "not there") makes it a swap.

    `confirmed` moves an alias that the configuration protects.
    """
    refs.check_name(name)
    refs.check_alias(alias)
    aliases = context.registry.aliases(name)
    if number is None and alias not in aliases:
        raise NotFound(f"alias of {name}", alias, aliases)
    review_move(context, name, alias, number, confirmed=confirmed)
    compare = {} if expect == -1 else {"expect": expect}
    move = context.registry.move_alias(name, alias, number, author=context.config.author, **compare)
    emit(context, "alias-moved", f"{name}@{alias}", detail={"old": move.old, "new": move.new})
    return move


def rollback(context: Context, name: str, alias: str, *, confirmed: bool = False) -> AliasMove:
    """Point an alias at where it pointed before its last move."""
    refs.check_alias(alias)
    moves = [
        m for m in context.registry.alias_history(refs.check_name(name), alias) if m.alias == alias
    ]
    if not moves:
        raise NotFound(f"alias of {name}", alias, context.registry.aliases(name))
    if moves[-1].old is None:
        raise Refused(
            f"cannot roll back {name}@{alias}",
            why="it has no earlier target",
            fix=f"adaptkit alias {name} {alias} VERSION",
        )
    return move_alias(
        context, name, alias, moves[-1].old, expect=moves[-1].new, confirmed=confirmed
    )


def rename(context: Context, old: str, new: str) -> str:
    """Another name for an adapter, with all its versions; the old one leads to it from now on."""
    refs.check_name(old)
    refs.check_name(new)
    was = context.registry.rename(old, new, author=context.config.author)
    if was != new:
        emit(context, "renamed", new, detail={"old": was, "new": new})
    return new
