"""Move versions into the trash, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import BadReference
from adaptkit.extend.review import Delete
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.reviews import review
from adaptkit.workspace.lookup.artifacts import (
    find_version,
)

if TYPE_CHECKING:
    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context


def remove(context: Context, ref: str) -> Version:
    """Move a version to the trash; refused while an alias or a descendant points at it."""
    version = find_version(context, ref)
    review(context, Delete((version,)))
    context.registry.delete(version.name, version.number, author=context.config.author)
    emit(context, "deleted", version.ref, version.digest)
    return version


def restore(context: Context, ref: str) -> Version:
    """Take a version out of the trash, under the number it had."""
    parsed = refs.parse(ref)
    if (
        not isinstance(parsed, refs.NameRef)
        or not parsed.selector
        or parsed.selector.kind != "number"
    ):
        raise BadReference(
            f"cannot restore '{ref}'",
            why="a version in the trash is named by its number",
            fix=_in_trash(context, parsed),
        )
    version = context.registry.restore(
        parsed.name, parsed.selector.number, author=context.config.author
    )
    emit(context, "restored", version.ref, version.digest)
    return version


def _in_trash(context: Context, ref: refs.Ref) -> str:
    name = ref.name if isinstance(ref, refs.NameRef) else ""
    found = [version.ref for version in context.registry.trash() if version.name == name]
    return f"adaptkit restore {found[0]}" if found else "for example: adaptkit restore naval@3"


def trash(context: Context) -> tuple[Version, ...]:
    """The versions that `restore` can bring back."""
    context.check_home()
    return tuple(context.registry.trash())
