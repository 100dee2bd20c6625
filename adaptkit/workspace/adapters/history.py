"""What happened to adapters: versions of a name, events, lineage."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import NotFound
from adaptkit.workspace.adapters.aliases import mark_undone
from adaptkit.workspace.lookup.artifacts import find_version
from adaptkit.workspace.results import Logged

if TYPE_CHECKING:
    from adaptkit.types import Event, Lineage
    from adaptkit.workspace.context.context import Context


def log(context: Context, name: str) -> Logged:
    """The versions of a name, newest first, and the moves of its aliases; or the versions of a place.

    `name` may mean one of its versions, by number, alias or digest.
    """
    parsed = refs.parse(name)
    if isinstance(parsed, (refs.UrlRef, refs.RemoteRef)):
        from adaptkit.workspace.lookup.places import log_elsewhere

        return log_elsewhere(context, parsed)
    name = find_version(context, parsed).name
    return Logged(
        tuple(reversed(context.registry.versions(name=name))),
        mark_undone(context.registry.alias_history(name)),
        context.registry.former_names(name),
    )


def events(
    context: Context, name: str | None = None, *, limit: int | None = None
) -> tuple[Event, ...]:
    """What was done to an adapter, under whatever name, or to anything; newest first."""
    context.check_home()
    names: tuple[str, ...] = ()
    if name is not None:
        if "@" in name:
            name = find_version(context, name).name
        refs.check_name(name)
        with suppress(NotFound):  # all its versions may be in the trash
            name = find_version(context, name).name
        names = (name, *context.registry.former_names(name))
    return tuple(context.registry.events(limit=limit, names=names))


def lineage(context: Context, ref: str) -> Lineage:
    """Everything a version comes from, across merges, back to training data where known."""
    return context.registry.lineage(find_version(context, ref).digest)


def lineages(context: Context, name: str) -> Logged:
    """The log of a name with where each of its versions comes from, for a graph."""
    logged = log(context, name)
    return replace(
        logged, lineages={v.digest: context.registry.lineage(v.digest) for v in logged.versions}
    )
