"""fsck: the database against the store against the placements, and repairs."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from adaptkit.errors import Corrupt, StorageError, StoreError
from adaptkit.io.files import sha256_file
from adaptkit.types import Event
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.executor import executor_url
from adaptkit.workspace.maintenance.garbage import kept_by_registries
from adaptkit.workspace.maintenance.hashed import Hashed
from adaptkit.workspace.tasks.places import damaged_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.extend import StorageBackend
    from adaptkit.types import Manifest, PlacedVersion, Placement
    from adaptkit.workspace.context.context import Context
    from adaptkit.workspace.maintenance.fsck import Checked, Finding


def check_workspace(
    context: Context,
    *,
    repair: bool = False,
    places: bool = True,
    deep: bool = False,
    on: str | None = None,
) -> Checked:
    """The database against the store against the placements; `repair` repairs what it can.

    Placements are checked by the sizes and digests that their place states; `deep` fetches and
    hashes every file there. `on` names an executor whose workers hash what is stored here and, with
    `deep`, what places hold; it is this process that compares, repairs and records.
    """
    from adaptkit.workspace.maintenance import fsck
    from adaptkit.workspace.tasks.verify import error_of

    on = executor_url(context, on)
    context.check_home()
    registry = context.registry
    manifests = list(registry.manifests())
    placements = registry.all_placements()
    placed = {placement.digest for placement in placements}
    labels = partial(_label, context)
    digests = [manifest.digest for manifest, _ in manifests]
    hashed = Hashed.by(context, on, digests, placements if places and deep else ())
    with context.watch("checking artifacts", len(manifests), "artifacts") as step:
        artifacts = list(
            fsck.check_artifacts(
                manifests,
                context.store,
                labels,
                placed,
                hashed.error if hashed else partial(error_of, context.store),
                partial(_repair, context) if repair else None,
                step,
            )
        )
    there: list[fsck.Finding] = []
    if places:
        with context.watch("checking placements", len(placements), "placements") as step:
            checked = list(
                fsck.check_placements(
                    placements,
                    context.places,
                    hashed.look if hashed and deep else partial(_damage, context, deep=deep),
                    partial(_repair_placement, context) if repair else None,
                    step,
                )
            )
        there = [finding for _, finding in checked if finding]
        may_hold = {one.digest for one, finding in checked if fsck.may_hold(finding)}
        stated = [manifest for manifest, _ in manifests]
        artifacts = list(fsck.lost(artifacts, stated, context.store, labels, may_hold))
    kept, blobs = kept_by_registries(context)
    orphans = fsck.check_orphans(context.store, kept, blobs)
    findings = (*_contradictions(context, repair=repair), *artifacts, *there, *orphans)
    return fsck.Checked(len(manifests), len(placements), findings)


def _contradictions(context: Context, *, repair: bool) -> list[Finding]:
    """What tables and indexes of the database say against each other; a stale index is built again on `repair`."""
    from adaptkit.workspace.maintenance.fsck import Finding

    rebuilt = context.registry.rebuild_indexes() if repair else []
    return [
        *(
            Finding(
                "contradiction",
                f"the index '{index}' did not hold what its table says",
                repaired="built again from the table",
            )
            for index in rebuilt
        ),
        *(Finding("contradiction", text) for text in context.registry.problems()),
    ]


def _label(context: Context, digest: str) -> str:
    found = context.registry.versions(digest=digest)
    return found[-1].ref if found else "in the trash"


def _repair(context: Context, manifest: Manifest) -> str:
    """Restore an artifact: from the store and its trash, else from a placement."""
    try:
        context.store.add(manifest, {})
        context.store.verify(manifest.digest)
        how = "from what was in the store"
    except StoreError as error:
        placements = context.registry.placements(manifest.digest)
        if not placements:
            why = error.what if isinstance(error, Corrupt) else error.why or error.what
            raise StoreError(
                "it cannot be repaired", why=f"{why}, and it was never pushed anywhere"
            ) from error
        from adaptkit.remotes.refetch import refetch

        used = refetch(manifest.digest, placements, context.places, context.store)
        how = f"from {used.place}@{used.number}"
    context.registry.record(
        Event(
            "repaired",
            _label(context, manifest.digest),
            manifest.digest,
            {"how": how},
            actor=context.config.author,
        )
    )
    return how


def _damage(
    context: Context, place: StorageBackend, placed: PlacedVersion, *, deep: bool
) -> Mapping[str, str]:
    """The damaged files of a version in a place, with the reason; `deep` hashes what the place gives."""
    stated = dict(place.damage(placed))
    return stated | damaged_files(place, placed, context.tmp, stated) if deep else stated


def _intact(context: Context, sha256: str) -> bool:
    store = context.store
    return store.has(sha256) and sha256_file(store.blob(sha256)) == sha256


def _repair_placement(
    context: Context,
    placement: Placement,
    place: StorageBackend | None,
    placed: PlacedVersion | None,
) -> str:
    """Send what is damaged in a place again from the store; a placement without a version is forgotten."""
    if place is None or placed is None:
        context.registry.drop_placement(placement, author=context.config.author)
        emit(context, "repaired", placement.place, placement.digest, asdict(placement))
        return "forgotten"
    context.store.verify(placement.digest)
    broken = _damage(context, place, placed, deep=True)
    files = [
        entry
        for entry in placed.manifest.files + placed.manifest.extras
        if entry.path in broken and _intact(context, entry.sha256)
    ]
    paths = {entry.path: context.store.blob(entry.sha256) for entry in files}
    place.repair(placed, files, paths)
    if left := _damage(context, place, placed, deep=True):
        raise StorageError(
            f"{placement.place}@{placement.number} is still damaged",
            why=", ".join(f"{path}: {why}" for path, why in sorted(left.items())),
            fix="push it again as a new version",
        )
    detail = {"place": placement.place, "number": placement.number, "files": sorted(broken)}
    label = _label(context, placement.digest)
    context.registry.record(
        Event("repaired", label, placement.digest, detail, author=context.config.author)
    )
    return f"sent again: {', '.join(sorted(broken))}"
