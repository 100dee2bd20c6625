"""Registered versions and the verified artifacts behind them."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import BadReference, Corrupt, NotFound, StoreError
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.reviews import review_move
from adaptkit.workspace.results import Added

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from adaptkit.adapters.ingest import PreparedAdapter
    from adaptkit.types import BaseIdentity, Facts, Manifest, Version
    from adaptkit.workspace.context.context import Context


def find_version(context: Context, ref: str | refs.Ref) -> Version:
    """The registered version that a reference means."""
    parsed = refs.parse(ref) if isinstance(ref, str) else ref
    context.check_home()
    if isinstance(parsed, refs.DigestRef):
        return context.registry.find_digest(parsed.prefix)[-1]
    if not isinstance(parsed, refs.NameRef):
        raise BadReference(
            f"'{ref}' is not a registered adapter",
            why="it is a place or a path",
            fix=f"add or pull it first: adaptkit add {ref} --name NAME",
        )
    kind, selector = (parsed.selector.kind, parsed.selector) if parsed.selector else ("", None)
    with _hint(context, parsed.name):
        if selector is None:
            return context.registry.version(parsed.name)
        if kind == "number":
            return context.registry.version(parsed.name, number=selector.number)
        if kind == "digest":
            return context.registry.version(parsed.name, digest=selector.value)
        return context.registry.version(parsed.name, alias=selector.value)


def manifest_of(context: Context, version: Version) -> Manifest:
    """The manifest with the base as the registry knows it now.

    `base verify` may have changed it. README.md is the one in the store, where there is one.
    """
    manifest = replace(context.registry.manifest(version.digest), base=version.base)
    with suppress(StoreError):
        return replace(manifest, extras=context.store.manifest(version.digest).extras)
    return manifest


def verified_tree(context: Context, digest: str) -> Path:
    """An artifact as a verified folder, fetched from a placement when this store lacks it."""
    try:
        return context.store.tree(digest)
    except StoreError as error:
        _refetch(context, digest, error)
        return context.store.tree(digest)


def ensure_present(context: Context, digest: str) -> None:
    """Verify an artifact's bytes in the store.

    Fetch them from a placement when they are missing or damaged.
    """
    try:
        context.store.verify(digest)
    except StoreError as error:
        _refetch(context, digest, error)


def _refetch(context: Context, digest: str, error: StoreError) -> None:
    from adaptkit.remotes.refetch import refetch

    if context.store.read_only:
        raise error
    placements = context.registry.placements(digest)
    if not placements and (isinstance(error, Corrupt) or not context.config.registry_url):
        raise error
    known = context.registry.versions(digest=digest)
    refetch(digest, placements, context.places, context.store, known, context.notify)


def register(
    context: Context,
    prepared: PreparedAdapter,
    name: str,
    *,
    message: str = "",
    alias: str | None = None,
    new_version: bool = False,
    origin: str,
) -> Added:
    """Store blobs, then the manifest, then the row.

    A crash in between leaves the old state or the new one.
    """
    # numpy and the identity of bases come with these, and looking up a version needs none of it
    from adaptkit.workspace.lookup.bases import learn
    from adaptkit.workspace.lookup.corrections import (
        changed_extras,
        name_what_stays,
        take_corrected,
    )

    manifest = prepared.manifest
    if (why := context.plugins.disabled) and "plugins_off" not in manifest.facts:
        facts: Facts = {**manifest.facts, "plugins_off": sorted(why)}
        manifest = replace(manifest, facts=facts)
    if alias is not None:
        review_move(context, name, alias, context.registry.next_number(name))
    admit = check_addition(context, name, manifest, new_version=new_version)
    with context.store.working():  # until the row is there, only the lease keeps a gc away
        stored = context.store.add(manifest, prepared.sources)
        changed = changed_extras(manifest, stored)
        if changed and origin != "added":
            name_what_stays(context, manifest.digest, changed)
        version, created = context.registry.add_version(
            name,
            stored,
            message=message,
            author=context.config.author,
            origin=origin,
            alias=alias,
            admit=admit,
        )
        if origin == "added":
            take_corrected(context, version, manifest, changed)
    learn(context, stored.base)
    if created:
        emit(context, origin, version.ref, version.digest)
    twins = context.registry.refs_of(version.digest) if created else ()
    same_as = next((twin for twin in twins if twin != version.ref), "")
    return Added(version, created, prepared.skipped, same_as)


def check_addition(
    context: Context, name: str, manifest: Manifest, *, new_version: bool
) -> Callable[[Version], None] | None:
    """Refuse what `name` cannot become, before anything is stored for it.

    Returns the check that the registry makes once more when it adds the version.
    """
    from adaptkit.bases.compatibility import check_next

    pairs, first = dict(context.pairs), manifest
    with suppress(StoreError):  # the first manifest of a digest stays
        first = context.store.manifest(manifest.digest)

    def admit(latest: Version) -> None:
        check_next(name, latest, first, pairs)

    asked = None if new_version else admit
    context.registry.check_addition(name, manifest.digest, asked)
    return asked


def check_destination(
    name: str | None, out: str | os.PathLike[str] | None, **of_versions: object
) -> None:
    """Refuse a result that is to go to neither, or both, of a name and a folder.

    And what only a version has (`of_versions`), of a folder.
    """
    if (name is None) == (out is None):
        raise BadReference(
            "the new adapter goes to one place",
            why="give either a name or a folder",
            fix="--name NAME registers it, --out DIR writes a folder",
        )
    if name is not None:
        refs.check_name(name)
    elif given := next((option for option, value in of_versions.items() if value), None):
        option = given.replace("_", "-")
        raise BadReference(
            f"--{option} goes with --name",
            why="a folder is not registered, and only a version has that",
            fix=f"give --name, or leave out --{option}",
        )


def check_next_version(
    context: Context, name: str, base: BaseIdentity, *, message: str, new_version: bool
) -> None:
    """Refuse what could not be registered under a name, before anything of it is made."""
    from adaptkit.bases.compatibility import check_next_base

    def admit(latest: Version) -> None:
        check_next_base(name, latest, base, context.pairs)

    context.registry.check_addition(
        name,
        "",  # no digest yet
        None if new_version else admit,
        message=message,
        author=context.config.author,
    )


@contextmanager
def _hint(context: Context, name: str) -> Iterator[None]:
    """An unknown name that is a folder here was probably meant as a path; an empty registry says where it is."""
    try:
        yield
    except NotFound as error:
        with suppress(OSError):
            if Path(name).is_dir():
                error.fix = f"there is a folder of that name: ./{name}"
        if re.fullmatch("[0-9a-f]{8,64}", name):
            error.fix = error.fix or f"of a digest: sha256:{name}"
        elif re.fullmatch(r"[0-9]*\.[0-9]+", name):
            error.fix = error.fix or f"a weight goes behind its adapter: naval={name}"
        if not context.registry.names():
            error.fix = error.fix or (
                f"looked in {context.registry.shown}: adaptkit add PATH --name {name}, or check --home"
            )
        raise
