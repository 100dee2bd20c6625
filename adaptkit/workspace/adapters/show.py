"""Show one version, registered or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.workspace.lookup.artifacts import find_version, manifest_of
from adaptkit.workspace.results import Shown

if TYPE_CHECKING:
    from adaptkit.workspace.context.context import Context


def show(context: Context, ref: str) -> Shown:
    """Everything known of one version: registered, in a place, or in a folder that is not registered."""
    parsed = refs.parse(ref)
    if isinstance(parsed, (refs.UrlRef, refs.RemoteRef, refs.PathRef)):
        from adaptkit.workspace.lookup.places import show_elsewhere

        return show_elsewhere(context, parsed)
    version = find_version(context, parsed)
    return Shown(
        version,
        manifest_of(context, version),
        tuple(context.registry.parents(version.digest)),
        tuple(context.registry.placements(version.digest)),
    )
