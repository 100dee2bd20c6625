"""Fetch versions from URLs and remotes, and register them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.io.staging import staging
from adaptkit.remotes import transfer
from adaptkit.types import Placement
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.reviews import review_move
from adaptkit.workspace.context.signatures import admit, kept_signatures
from adaptkit.workspace.lookup.adapters import ingest_pulled
from adaptkit.workspace.lookup.artifacts import check_addition, register
from adaptkit.workspace.lookup.bases import learn
from adaptkit.workspace.lookup.places import choose_placed
from adaptkit.workspace.results import Added

if TYPE_CHECKING:
    from adaptkit.extend import StorageBackend
    from adaptkit.types import PlacedVersion
    from adaptkit.workspace.context.context import Context


def pull(
    context: Context,
    source: str,
    *,
    name: str | None = None,
    alias: str | None = None,
    new_version: bool = False,
    allow_pickle: bool = False,
) -> Added:
    """Fetch a version from a URL or `REMOTE:NAME`, verify every byte, and register it.

    What adaptkit did not make is looked at as `add` looks at a folder.
    """
    place, placed = choose_placed(context, source)
    name = refs.check_name(name or placed.name or place.url.rstrip("/").rpartition("/")[2])
    parsed = refs.parse(source)
    taken = _take(
        context,
        place,
        placed,
        name,
        origin="pulled",
        alias=alias,
        new_version=new_version,
        allow_pickle=allow_pickle,
        asked=parsed.name if isinstance(parsed, refs.RemoteRef) else None,
    )
    if not taken.created and getattr(parsed, "selector", None) is None:
        newest = context.registry.version(taken.version.name)
        if newest.number > taken.version.number:
            context.notify(
                f"the latest of {place.url}, @{placed.number}, is {taken.version.ref} here, "
                f"which is older than {newest.ref}"
            )
    return taken


def rebuild(context: Context, source: str) -> tuple[Added, ...]:
    """Register every version of a place, or of all adapters in a remote, under its number.

    Aliases of the place come too, where the registry has none of that name.
    """
    root = context.places.root(source)
    taken: list[Added] = []
    for place in [context.places.open(f"{root.url}/{name}") for name in root.names()] or [root]:
        found = {
            placed.number: _take(
                context,
                place,
                placed,
                placed.name or place.url.rpartition("/")[2],
                origin="rebuilt",
                new_version=True,
            )
            for placed in transfer.placed_versions(place)
        }
        for alias, number in sorted(place.aliases().items()):
            version = found[number].version if number in found else None
            if version is not None and alias not in context.registry.aliases(version.name):
                context.registry.move_alias(
                    version.name, alias, version.number, expect=None, author=context.config.author
                )
        taken += found.values()
    return tuple(taken)


def _take(
    context: Context,
    place: StorageBackend,
    placed: PlacedVersion,
    name: str,
    *,
    origin: str,
    alias: str | None = None,
    new_version: bool = False,
    allow_pickle: bool = False,
    asked: str | None = None,
) -> Added:
    """Fetch and register a version that the policy lets in.

    `asked` is the name it was asked for by.
    """
    signatures = admit(context, place, placed, asked)
    if alias is not None:
        review_move(context, name, alias, context.registry.next_number(name))
    size = sum(entry.size for entry in placed.manifest.files)

    if not placed.described:
        with staging(context.tmp) as work, context.watch(f"pulling {name}", size) as progress:
            prepared = ingest_pulled(
                context, place, placed, work, allow_pickle=allow_pickle, progress=progress
            )
            return register(
                context, prepared, name, alias=alias, new_version=new_version, origin=origin
            )
    check = check_addition(context, name, placed.manifest, new_version=new_version)
    with context.store.working(), context.watch(f"pulling {name}", size) as progress:
        manifest = transfer.fetch(place, placed, context.store, progress)
        version, created = context.registry.add_version(
            name,
            manifest,
            message=placed.message,
            author=placed.author,
            origin=origin,
            alias=alias,
            number=placed.number or None,
            admit=check,
        )
    for signature in signatures:
        if signature.statement.manifest.digest == manifest.digest:
            kept_signatures(context).keep(signature)
    if placed.number:
        context.registry.record_placement(
            Placement(place.url, placed.number, manifest.digest, context.now()),
            author=context.config.author,
        )
    learn(context, manifest.base, placed.author)
    if created:
        origin_of = {"place": place.url, "number": placed.number, "revision": placed.revision}
        emit(context, origin, version.ref, version.digest, origin_of)
    return Added(version, created)
