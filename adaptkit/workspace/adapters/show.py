"""List adapters and versions, and show one, registered or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.types import Sameness
from adaptkit.workspace.lookup.artifacts import (
    find_version,
    manifest_of,
)
from adaptkit.workspace.lookup.bases import find_base, same_base
from adaptkit.workspace.lookup.places import list_remote, narrowed, remote_in, show_elsewhere
from adaptkit.workspace.results import Shown
from adaptkit.workspace.units import parse_condition, parse_rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context


_FITTING = (Sameness.SAME, Sameness.PROBABLY_SAME)


def list_adapters(
    context: Context,
    *,
    base: str | None = None,
    method: str | None = None,
    every: bool = False,
    rank: str | None = None,
    tag: str | None = None,
    metrics: Sequence[str] = (),
    words: Sequence[str] = (),
    team: str | None = None,
) -> tuple[Version, ...]:
    """The latest version of each name (or `every` version), narrowed.

    `rank` is `8` or `>=8`, `metrics` are conditions such as `accuracy>=0.9`, and each of `words`
    must be found in the name, the names it had, the description, the message or a tag. A word such
    as `team:` lists what is in that remote.
    """
    unfit = {"--base": base, "--rank": rank, "--tag": tag, "--metric": metrics, "--team": team}
    if (remote := remote_in(tuple(words), dict(unfit))) is not None:
        others = tuple(word for word in words if word != f"{remote}:")
        return narrowed(list_remote(context, remote, every=every), others, method)
    context.check_home()
    find = context.registry.versions if every else context.registry.latest_versions
    fitting = None
    if base is not None:
        wanted = find_base(context, base).identity
        fitting = [
            known
            for known in context.registry.known_bases()
            if same_base(context, known, wanted).sameness in _FITTING
            or (not wanted.levels and known.name == wanted.name)
        ]
    return tuple(
        find(
            method=method,
            tag=tag,
            team=team and refs.check_name(team),
            words=tuple(words),
            rank=None if rank is None else parse_rank(rank),
            fitting=fitting,
            figures=tuple(parse_condition(text) for text in metrics),
        )
    )


def show(context: Context, ref: str) -> Shown:
    """Everything known of one version: registered, in a place, or in a folder that is not registered."""
    parsed = refs.parse(ref)
    if isinstance(parsed, (refs.UrlRef, refs.RemoteRef, refs.PathRef)):
        return show_elsewhere(context, parsed)
    version = find_version(context, parsed)
    return Shown(
        version,
        manifest_of(context, version),
        tuple(context.registry.parents(version.digest)),
        tuple(context.registry.placements(version.digest)),
    )
