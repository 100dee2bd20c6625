"""Fetch versions from URLs and remotes, and register them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import AdaptkitError, Conflict, StorageError, Unresponsive
from adaptkit.io.staging import staging
from adaptkit.remotes import foreign, transfer
from adaptkit.types import Placement
from adaptkit.workspace.context.corrected import receive_corrected
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.moments import receive_moments
from adaptkit.workspace.context.reviews import review_move
from adaptkit.workspace.context.signatures import admit, kept_signatures
from adaptkit.workspace.lookup.adapters import ingest_pulled
from adaptkit.workspace.lookup.artifacts import check_addition, register
from adaptkit.workspace.lookup.bases import learn
from adaptkit.workspace.lookup.places import choose_placed
from adaptkit.workspace.results import Added

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    It is called `name`, else as its place is; the name written inside decides nothing. What
    adaptkit did not make is looked at as `add` looks at a folder.
    """
    place, placed = choose_placed(context, source)
    parsed = refs.parse(source)
    if name is not None:
        called = refs.check_name(name)
    elif isinstance(parsed, refs.RemoteRef):
        called = parsed.name
    else:
        called = foreign.name_of(place)
    taken = _take(
        context,
        place,
        placed,
        called,
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
    """Register every version of a place, or of all adapters in a remote, under its number there.

    An adapter is called as its place is. Where that name means something else here, it becomes
    `REMOTE/name`, and this is notified: no version is ever renumbered. Aliases of the place come
    too, where the registry has none of that name. What cannot be trusted does not stop the rest;
    `StorageError` at the end counts it.
    """
    root = context.places.root(source)
    names, failures = foreign.names_in(root)
    failed, taken = list(failures), list[Added]()
    for name in names or [""]:
        place = context.places.open(f"{root.url}/{name}") if name else root
        try:
            taken += _rebuild_one(context, place, name or foreign.name_of(place), source, failed)
        except AdaptkitError as error:
            failed.append(error.summary)
            if len(names) < 2 and not taken:
                raise
            if isinstance(error, Unresponsive):  # so would the others be
                break
    if not taken and not failed:
        context.notify(f"no version is in {root.url}: check it for a typo")
    if failed:
        raise StorageError(
            f"{len(failed)} of {len(failed) + len(taken)} in {root.url} could not be registered",
            why="; ".join(failed),
            fix="the others are registered; the same command tries these again",
        )
    return tuple(taken)


def _rebuild_one(
    context: Context, place: StorageBackend, name: str, source: str, failed: list[str]
) -> list[Added]:
    listed, complaints = foreign.examined(place)
    failed += complaints
    called = _own_name(context, place, listed, name, source)
    found: dict[int, Added] = {}
    problem: AdaptkitError | None = None
    for placed in listed:
        try:
            found[placed.number] = _take(
                context, place, placed, called, origin="rebuilt", new_version=True
            )
        except AdaptkitError as error:
            problem = error
            failed.append(error.summary)
            if isinstance(error, Unresponsive):  # so would the others be
                break
    if problem is not None and not found:
        failed.remove(problem.summary)
        raise problem
    aliases, remarks = foreign.aliases_of(place)
    failed += remarks
    failed += foreign.dangling(place, aliases, {placed.number for placed in listed})
    for alias, number in aliases.items():
        version = found[number].version if number in found else None
        if version is not None and alias not in context.registry.aliases(version.name):
            context.registry.move_alias(
                version.name, alias, version.number, expect=None, author=context.config.author
            )
    return list(found.values())


def _own_name(
    context: Context,
    place: StorageBackend,
    listed: Sequence[PlacedVersion],
    name: str,
    source: str,
) -> str:
    """The name of a place's adapter, or `REMOTE/name` where its numbers mean other artifacts here."""
    clash = _clash(context, listed, name)
    if not clash:
        return name
    apart = f"{_label(source)}/{name.replace('/', '-')}"
    refs.check_name(apart)
    if again := _clash(context, listed, apart):
        raise Conflict(
            f"{place.url} cannot be registered under its numbers",
            why=f"{clash}, and {again}",
            fix=f"adaptkit rename {apart} OTHER, then the same command again",
        )
    context.notify(f"{place.url} is registered as {apart}: {clash}")
    return apart


def _clash(context: Context, listed: Sequence[PlacedVersion], name: str) -> str:
    """Which version of a place would get another number under this name; empty when none would."""
    known = {version.number: version.digest for version in context.registry.versions(name=name)}
    held, after = set(known.values()), context.registry.next_number(name)
    for placed in sorted(listed, key=lambda one: one.number):
        digest = placed.manifest.digest
        if not placed.number or digest in held:
            continue
        if placed.number < after:
            return f"{name}@{placed.number} is another artifact here"
        held.add(digest)
    return ""


def _label(source: str) -> str:
    """What to call a remote, or the place behind a URL, in front of a name."""
    if "://" not in source:
        return source
    last = source.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-_") or "place"


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
        with (
            staging(context.tmp) as work,
            context.watch(f"pulling {name}", size, "bytes") as progress,
        ):
            prepared = ingest_pulled(
                context, place, placed, work, allow_pickle=allow_pickle, progress=progress
            )
            return register(
                context, prepared, name, alias=alias, new_version=new_version, origin=origin
            )
    check = check_addition(context, name, placed.manifest, new_version=new_version)
    with context.store.working(), context.watch(f"pulling {name}", size, "bytes") as progress:
        manifest = transfer.fetch(place, placed, context.store, progress)
        version, created = context.registry.add_version(
            name,
            manifest,
            message=placed.message,
            author=placed.author,
            actor=context.config.author,
            origin=origin,
            alias=alias,
            number=placed.number or None,
            admit=check,
        )
    for signature in signatures:
        if signature.statement.manifest.digest == manifest.digest:
            kept_signatures(context).keep(signature)
    receive_moments(context, place, placed.number, manifest.digest)
    receive_corrected(context, place, placed.number, version)
    if placed.number:
        context.registry.record_placement(
            Placement(place.url, placed.number, manifest.digest, context.now()),
            author=context.config.author,
        )
    learn(context, manifest.base, placed.author)
    if created:
        origin_of = {"place": place.url, "number": placed.number, "revision": placed.revision}
        emit(context, origin, version.ref, version.digest, origin_of, placed.author)
    return Added(version, created)
