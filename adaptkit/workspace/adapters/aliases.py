"""Aliases of versions, and names of adapters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import NotFound, Refused
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.reviews import review_move

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    rollback: bool = False,
) -> AliasMove:
    """Point an alias at a version (None drops it).

    `expect` (a number, or None for "not there") makes it a swap.

    `confirmed` moves an alias that the configuration protects; a `rollback` is recorded as one.
    """
    refs.check_name(name)
    refs.check_alias(alias)
    aliases = context.registry.aliases(name)
    if number is None and alias not in aliases:
        raise NotFound(f"alias of {name}", alias, aliases)
    review_move(context, name, alias, number, confirmed=confirmed)
    compare = {} if expect == -1 else {"expect": expect}
    move = context.registry.move_alias(
        name, alias, number, author=context.config.author, rollback=rollback, **compare
    )
    emit(context, "alias-moved", f"{name}@{alias}", detail={"old": move.old, "new": move.new})
    return move


def rollback(
    context: Context, name: str, alias: str, to: int | None = None, *, confirmed: bool = False
) -> AliasMove:
    """Point an alias at where it pointed before, one step further back each time.

    `to` names an earlier target by its number.
    """
    refs.check_alias(alias)
    moves = [
        m for m in context.registry.alias_history(refs.check_name(name), alias) if m.alias == alias
    ]
    if not moves:
        raise NotFound(f"alias of {name}", alias, context.registry.aliases(name))
    *before, now = _standing(moves)[0]
    earlier = [number for number in before if number is not None]
    if not earlier:
        raise Refused(
            f"cannot roll back {name}@{alias}",
            why="it has no earlier target",
            fix=f"adaptkit alias {name} {alias} VERSION points it at any other version",
        )
    if to is not None and to not in earlier:
        raise Refused(
            f"cannot roll back {name}@{alias} to {to}",
            why=f"before {now or 'nothing'} it pointed at {', '.join(map(str, reversed(earlier)))}",
            fix=f"adaptkit alias {name} {alias} {to} points it there as a new step",
        )
    return move_alias(
        context,
        name,
        alias,
        earlier[-1] if to is None else to,
        expect=now,
        confirmed=confirmed,
        rollback=True,
    )


def mark_undone(moves: Sequence[AliasMove]) -> tuple[AliasMove, ...]:
    """The moves of a name's aliases, with those marked that a rollback took back."""
    undone: set[AliasMove] = set()
    for alias in {move.alias for move in moves}:
        undone |= _standing([move for move in moves if move.alias == alias])[1]
    return tuple(replace(move, undone=move in undone) for move in moves)


def _standing(moves: Sequence[AliasMove]) -> tuple[list[int | None], set[AliasMove]]:
    """Where an alias pointed, oldest first, without what was rolled back; and the moves undone."""
    targets: list[int | None] = [moves[0].old]
    made: list[AliasMove | None] = [None]
    undone: set[AliasMove] = set()
    for move in moves:
        if move.rollback and move.new in targets[:-1]:
            while len(targets) > 1:
                targets.pop()
                if (taken := made.pop()) is not None:
                    undone.add(taken)
                if targets[-1] == move.new:
                    break
        else:
            targets.append(move.new)
            made.append(move)
    return targets, undone


def rename(context: Context, old: str, new: str) -> str:
    """Another name for an adapter, with all its versions; the old one leads to it from now on."""
    refs.check_name(old)
    refs.check_name(new)
    was = context.registry.rename(old, new, author=context.config.author)
    if was == old == new:
        raise Refused(f"cannot rename {old} to {new}", why="that is what it is called")
    if was != new:
        emit(context, "renamed", new, detail={"old": was, "new": new})
    return new
