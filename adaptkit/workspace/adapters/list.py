"""List adapters and versions.

The command that is typed most: what only some lists need is imported where they need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import BadReference, nearest
from adaptkit.types import Sameness
from adaptkit.workspace.units import parse_condition, parse_rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context


_FITTING = (Sameness.SAME, Sameness.PROBABLY_SAME)


def list_adapters(
    context: Context,
    *,
    base: str | None = None,
    method: str | None = None,
    every: bool = False,
    rank: str | int | None = None,
    tag: str | None = None,
    metrics: Sequence[str] = (),
    words: Sequence[str] = (),
    team: str | None = None,
) -> tuple[Version, ...]:
    """The latest version of each name (or `every` version), narrowed.

    `rank` is `8` or `>=8`, `metrics` are conditions such as `accuracy>=0.9`, and each of `words`
    must be found in the name, the names it had, the description, the message or a tag. A word such
    as `team:` lists what is in that remote, `team:naval` what of it has that word.
    """
    unfit = {"--base": base, "--rank": rank, "--tag": tag, "--metric": metrics, "--team": team}
    if (remote := _remote_in(context, words, unfit)) is not None:
        from adaptkit.workspace.lookup.places import list_remote, narrowed

        others = tuple(filter(None, (word.removeprefix(f"{remote}:") for word in words)))
        return narrowed(list_remote(context, remote, every=every), others, method)
    context.check_home()
    find = context.registry.versions if every else context.registry.latest_versions
    fitting = None
    if base is not None:
        from adaptkit.workspace.lookup.bases import find_base, same_base

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
            rank=None if rank is None else parse_rank(str(rank)),
            fitting=fitting,
            figures=tuple(parse_condition(text) for text in metrics),
        )
    )


def _remote_in(context: Context, words: Sequence[str], unfit: Mapping[str, object]) -> str | None:
    """The remote that a word such as `team:` or `team:naval` names; options that only a registry knows are refused."""
    remote = next(
        (
            head
            for head, colon, tail in (word.partition(":") for word in words)
            if colon and (not tail or head in context.config.remotes)
        ),
        None,
    )
    if remote is not None and (given := next((name for name, value in unfit.items() if value), "")):
        raise BadReference(
            f"cannot narrow {remote}: by {given}",
            why="only a registry knows it",
            fix=f"adaptkit list {remote}: WORD --method METHOD",
        )
    return remote


def unknown_marks(versions: Iterable[Version], tag: str | None, metrics: Sequence[str]) -> str:
    """Why a search for a tag and figures found nothing: the first that no version has, and the nearest; empty if none."""
    tags, figures = set[str](), set[str]()
    for version in versions:
        tags |= set(version.tags)
        figures |= version.metrics.keys()
    asked = [("tag", tag, tags)] if tag else []
    asked += [("figure", parse_condition(text).name, figures) for text in metrics]
    for kind, name, known in asked:
        if name not in known:
            near = nearest(name, known, show=1)[:1]
            return f"no version has the {kind} '{name}'" + (
                f": nearest is {near[0]}" if near else ""
            )
    return ""
