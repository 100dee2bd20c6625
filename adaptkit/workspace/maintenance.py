"""Maintenance: verify, fsck, gc, info, and moving a registry to another database."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import Corrupt, RegistryError, StorageError, StoreError
from adaptkit.io.files import atomic_write, os_errors, sha256_file
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import staging
from adaptkit.types import STATUSES, Event
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.lookup.artifacts import find_version
from adaptkit.workspace.results import Info, Verified
from adaptkit.workspace.tasks.run import open_executor
from adaptkit.workspace.tasks.verify import damage_of, verify_some
from adaptkit.workspace.units import parse_size

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.extend import StorageBackend
    from adaptkit.store.gc import Swept
    from adaptkit.types import Manifest, PlacedVersion, Placement
    from adaptkit.workspace.context.context import Context
    from adaptkit.workspace.fsck import Checked


def check_workspace(
    context: Context, *, repair: bool = False, places: bool = True, deep: bool = False
) -> Checked:
    """The database against the store against the placements; `repair` repairs what it can.

    Placements are checked by the sizes and digests that their place states; `deep` fetches and
    hashes every file there.
    """
    from adaptkit.workspace import fsck

    context.check_home()
    registry = context.registry
    manifests = list(registry.manifests())
    placements = registry.all_placements()
    placed = {placement.digest for placement in placements}
    labels = partial(_label, context)
    with context.watch("checking artifacts", len(manifests), "artifacts") as step:
        artifacts = list(
            fsck.check_artifacts(
                manifests,
                context.store,
                labels,
                placed,
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
                    partial(_damage, context, deep=deep),
                    partial(_repair_placement, context) if repair else None,
                    step,
                )
            )
        there = [finding for _, finding in checked if finding]
        may_hold = {
            placement.digest
            for placement, finding in checked
            if finding is None
            or finding.kind == "unreachable"
            or (finding.kind == "damaged" and finding.repaired)
        }
        artifacts = list(
            fsck.lost(
                artifacts,
                [manifest for manifest, _ in manifests],
                context.store,
                labels,
                may_hold,
            )
        )
    findings = [fsck.Finding("contradiction", text) for text in registry.problems()]
    digests, blobs = _kept(context)
    findings += [*artifacts, *there, *fsck.check_orphans(context.store, digests, blobs)]
    return fsck.Checked(len(manifests), len(placements), tuple(findings))


def collect_garbage(
    context: Context,
    *,
    grace: float | None = None,
    trash: float | None = None,
    dry_run: bool = False,
) -> Swept:
    """Remove what no version needs from the store, and empty its trash after `trash` seconds.

    What is younger than `grace` seconds stays. Versions in the trash count as needed.
    """
    from adaptkit.store import gc

    grace = gc.GRACE if grace is None else grace
    trash = gc.TRASH if trash is None else trash
    now = context.clock()
    before = (now - timedelta(seconds=trash)).isoformat(timespec="microseconds")
    context.check_home()
    gone = context.registry.purgeable(before)
    if gone and not dry_run:
        gone = context.registry.purge(before, author=context.config.author)
    done = gc.sweep(
        context.store,
        partial(_needed, context),
        grace=grace,
        trash=trash,
        dry_run=dry_run,
        now=now.timestamp,
        work=[context.tmp],
    )
    done = replace(done, purged=tuple(version.ref for version in gone))
    if not dry_run:
        for version in gone:
            emit(context, "purged", version.ref, version.digest)
        if done.swept or done.freed:
            detail = {
                "swept": len(done.swept),
                "bytes": done.swept_bytes,
                "freed": done.freed_bytes,
            }
            context.registry.record(
                Event("swept", "store", "", detail, actor=context.config.author)
            )
    return done


def info(context: Context) -> Info:
    """How much there is: counts, bytes, and quotas where the configuration sets them."""
    from adaptkit.store.gc import trash_size

    context.check_home()
    sizes = dict(context.registry.sizes())
    root = context.store.root
    here = {
        name: sum(path.lstat().st_size for path in (root / name).rglob("*") if path.is_file())
        for name in ("objects", "quarantine", "tmp")
    }
    here["trash"] = trash_size(context.store)
    used = {"store": sum(here.values())} | {team: size for team, size in sizes.items() if team}
    quotas = {
        name: (used.get(name, 0), parse_size(limit, name))
        for name, limit in context.config.quotas.items()
    }
    return Info(
        str(context.home.path),
        context.registry.shown,
        context.registry.counts(),
        here,
        sizes,
        quotas,
    )


def export_registry(context: Context, path: str | os.PathLike[str]) -> Path:
    """Write the whole registry to a file of JSON lines, whole or not at all."""
    context.check_home()
    target = user_path(path).absolute()
    data = "".join(f"{line}\n" for line in context.registry.export_lines()).encode()
    with os_errors("write", target):
        target.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(target, data)
    return target


def import_registry(context: Context, path: str | os.PathLike[str]) -> dict[str, int]:
    """Take in what `export_registry` wrote: how many rows of each kind were new.

    All of it, or nothing.
    """
    source = user_path(path)
    with os_errors("read", source):
        data = source.read_bytes()
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise RegistryError(
            f"cannot import {source}",
            why="it is no text",
            fix="adaptkit registry export FILE writes one",
        ) from error
    new = context.registry.import_lines(
        lines, author=context.config.author, source=source.name, check_name=refs.check_name
    )
    if new:
        emit(context, "imported", source.name, detail=new)
    return new


def verify(context: Context, ref: str | None = None, *, on: str | None = None) -> Verified:
    """Hash one version's files again, or those of every artifact in the store and the registry.

    What this store never had, but a placement holds, is no damage. `on` names an executor whose workers hash what is
    here.
    """
    context.check_home()
    digests = (
        [find_version(context, ref).digest]
        if ref
        else sorted({v.digest for v in context.registry.versions()} | set(context.store.digests()))
    )
    sound, damaged, elsewhere = [], [], []
    here = set(context.store.digests())
    executor = None if ref else open_executor(context, on)
    with context.watch("verifying", len(digests), "artifacts") as step:
        if executor is None:
            found = verify_some(str(context.store.root), digests, step)
        else:
            with executor:
                found = damage_of(executor, context.store.root, digests, step)
    for digest in digests:
        if digest not in found:
            sound.append(digest)
        elif digest not in here and context.registry.placements(digest):
            elsewhere.append(digest)
        else:
            damaged.append(found[digest])
    looked_at = [v.base.status for v in context.registry.versions() if v.digest in set(digests)]
    bases = {status: looked_at.count(status) for status in STATUSES if status in looked_at}
    return Verified(tuple(sound), tuple(damaged), tuple(elsewhere), bases)


def _kept(context: Context) -> tuple[set[str], set[str]]:
    """What this registry needs, and the workspace's own database if a team's is in force."""
    digests, blobs = context.registry.kept()
    if context.config.registry_url and context.home.database.exists():
        from adaptkit_registry import Registry

        with Registry.open(context.home.database) as own:
            more = own.kept()
        digests, blobs = digests | more[0], blobs | more[1]
    return digests, blobs


def _needed(context: Context) -> set[str]:
    digests, blobs = _kept(context)
    return {digest.partition(":")[2] for digest in digests} | blobs


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
    found = dict(place.damage(placed))
    if not deep:
        return found
    for entry in placed.manifest.files + placed.manifest.extras:
        if entry.path in found:
            continue
        with staging(context.tmp) as work:
            try:
                place.pull(placed, [entry], work)
            except (StorageError, StoreError) as error:
                found[entry.path] = error.why or error.what
                continue
            path = work / entry.path
            came = sha256_file(path) if path.is_file() else "no file"
            if came != entry.sha256:
                found[entry.path] = f"expected sha256 {entry.sha256[:12]}…, found {came[:12]}…"
    return found


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
        if entry.path in broken and context.store.has(entry.sha256)
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
