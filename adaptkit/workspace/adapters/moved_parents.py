"""Versions whose parents have moved on, and the line of a sweep that makes them anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.errors import BadReference, NotFound
from adaptkit.types import canonical_json
from adaptkit.workspace.lookup.artifacts import find_version

if TYPE_CHECKING:
    from adaptkit.types import Parent, Version
    from adaptkit.workspace.context.context import Context


@dataclass(frozen=True, slots=True)
class MovedParent:
    """A parent as it was used, and what stands in its place now: at its alias, or the highest number."""

    used: str
    now: Version

    def to_json(self) -> dict[str, Any]:
        return {"used": self.used, "now": self.now.ref}


@dataclass(frozen=True, slots=True)
class MovedOn:
    """The latest version of a name, of whose parents some have moved on; `set` and `step` refresh it in a sweep."""

    version: Version
    parents: tuple[MovedParent, ...]
    set: str
    step: str

    def to_json(self) -> dict[str, Any]:
        parents = [parent.to_json() for parent in self.parents]
        return {"version": self.version.ref, "parents": parents, "set": self.set, "step": self.step}


def moved_parents(context: Context) -> tuple[MovedOn, ...]:
    """The latest version of each name that was made of versions which are no longer the ones in force."""
    found = []
    for version in context.registry.latest_versions():
        parents = context.registry.parents(version.digest)
        moved = [one for one in (_moved(context, parent, version) for parent in parents) if one]
        if moved:
            set_, step = _lines(context, version, parents)
            found.append(MovedOn(version, tuple(moved), set_, step))
    return tuple(found)


def _moved(context: Context, parent: Parent, child: Version) -> MovedParent | None:
    """What stands in a parent's place; None when that is the parent still, or is not known here."""
    used = [v for v in context.registry.versions(digest=parent.digest) if v.name != child.name]
    if not used:
        return None
    now = _in_force(context, parent, used[-1].name)
    return None if now.digest == parent.digest else MovedParent(parent.label or used[-1].ref, now)


def _in_force(context: Context, parent: Parent, name: str) -> Version:
    """Where the alias points by which it was asked for; else the latest version."""
    try:
        asked = refs.parse(parent.label)
        if isinstance(asked, refs.NameRef) and asked.selector and asked.selector.kind == "alias":
            return find_version(context, asked)
    except (BadReference, NotFound):
        pass
    return find_version(context, name)


def _lines(context: Context, version: Version, parents: tuple[Parent, ...]) -> tuple[str, str]:
    """A line for `sets` and one for `steps` of a sweep; of a merge with its strategy, parameters and weights."""
    recipe = context.registry.manifest(version.digest).recipe
    if not recipe:
        step = f"- distil: {{of: {version.name}, prompts: {{PARENT: FILE}}}}"
        return f"{version.name}: {{name: {version.name}}}", step
    named = {p.digest: context.registry.versions(digest=p.digest) for p in parents}
    known = [(named[p.digest][-1].name, p.weight) for p in parents if named[p.digest]]
    weights = {name: weight for name, weight in known if weight != 1.0}
    parts = [f"of: {version.name}-parents", f"name: {version.name}"]
    parts.append(f"strategy: {recipe['strategy']}")
    parts += [
        f"{key}: {canonical_json(value)}"
        for key, value in (("params", recipe.get("params")), ("weights", weights))
        if value
    ]
    names = ", ".join(sorted(name for name, _ in known))
    return f"{version.name}-parents: {{name: [{names}]}}", f"- merge: {{{', '.join(parts)}}}"
