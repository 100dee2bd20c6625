"""What a project needs: `adaptkit.toml`, pinned in `adaptkit.lock`, brought into the store."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError, NotFound, Refused, StoreError
from adaptkit.project.lockfile import alone, read_lock, write_lock
from adaptkit.project.requirements import LOCK, PROJECT, Project
from adaptkit.remotes.places import Places
from adaptkit.types import Placement
from adaptkit.workspace.context.corrected import receive_corrected
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.signatures import admit
from adaptkit.workspace.lookup.artifacts import ensure_present, find_version
from adaptkit.workspace.lookup.bases import learn
from adaptkit.workspace.project.project_results import LockChange, LockReport, Outdated, Ready

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Sequence

    from adaptkit.project.lockfile import Locked
    from adaptkit.project.resolve import Pinning
    from adaptkit.types import Manifest, PlacedVersion, Version
    from adaptkit.workspace.context.context import Context

_AT_ONCE = 4
_ASKED = 500  # digests in one question to the registry


def lock(
    context: Context,
    project: str | os.PathLike[str] | None = None,
    *,
    update: Sequence[str] = (),
    update_all: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> LockReport:
    """Write `adaptkit.lock`.

    What is locked stays, what is new or asked for differently is looked up.

    `update` names entries to look up again, `update_all` looks up all. A version that was rewritten
    in its place is refused unless `force`.
    """
    found = _project(project)
    if unknown := sorted(set(update) - set(found.adapters)):
        raise NotFound(f"adapter in {PROJECT}", unknown[0], found.adapters)
    with alone(found, context.notify):
        return _lock(
            context,
            found,
            set(found.adapters) if update_all else set(update),
            force=force,
            dry_run=dry_run,
        )


def sync(
    context: Context,
    project: str | os.PathLike[str] | None = None,
    *,
    frozen: bool = False,
    jobs: int = _AT_ONCE,
) -> tuple[Ready, ...]:
    """Bring the store to the lock, `jobs` adapters at a time, and register what came.

    What the project asks for and the lock lacks is locked first; `frozen` refuses that, and writes
    no lock.
    """
    from adaptkit.project.resolve import disagreements

    found = _project(project)
    if frozen:
        entries = read_lock(found.lock)
        if differences := disagreements(found, entries):
            what = (
                f"{found.lock} does not fit {PROJECT}"
                if found.lock.is_file()
                else f"there is no {found.lock}"
            )
            raise Refused(
                what,
                why="; ".join(differences),
                fix=f"adaptkit lock, and put {LOCK} under version control",
            )
    else:
        with alone(found, context.notify):
            entries = dict(_lock(context, found, set()).entries)
    return _sync(context, found, list(entries.values()), max(1, jobs))


def outdated(
    context: Context, project: str | os.PathLike[str] | None = None
) -> tuple[Outdated, ...]:
    """What the lock pins, what the project's line means now, and the highest version.

    What could not be looked up says why.
    """
    found = _project(project)
    entries, pinning = read_lock(found.lock), _pinning(context, found)
    rows = []
    for name, asked in found.adapters.items():
        locked = entries.get(name)
        try:
            wanted = pinning.resolve(asked)
            rows.append(Outdated(name, locked, wanted, pinning.latest(asked, wanted)))
        except AdaptkitError as error:
            rows.append(Outdated(name, locked, note=error.summary))
    return tuple(rows)


def _pinning(context: Context, project: Project) -> Pinning:
    from adaptkit.project.resolve import Pinning

    return Pinning(
        _project_places(context, project),
        partial(find_version, context),
        lambda name: tuple(context.registry.versions(name=name)),
        lambda digest: tuple(context.registry.placements(digest)),
    )


def _project_places(context: Context, project: Project) -> Places:
    """Places by the project's remotes and the workspace's.

    Where both have a name, the project's counts.
    """
    remotes = dict(context.config.remotes) | dict(project.remotes)
    return Places(context.plugins, remotes, context.config.endpoints)


def _lock(
    context: Context,
    project: Project,
    update: set[str],
    *,
    force: bool = False,
    dry_run: bool = False,
) -> LockReport:
    from adaptkit.project.resolve import refuse_rewritten

    old, pinning = read_lock(project.lock), _pinning(context, project)
    entries: dict[str, Locked] = {}
    changes: list[LockChange] = []
    for name, asked in project.adapters.items():
        before = old.get(name)
        if before is not None and before.asked == str(asked) and name not in update:
            entries[name] = before
            continue
        entries[name] = pinning.resolve(asked)
        if before is not None and not force:
            refuse_rewritten(before, entries[name])
        if entries[name] != before:
            changes.append(LockChange(name, before, entries[name]))
        if not entries[name].place:
            context.notify(
                f"{entries[name].where} was never pushed: only this registry can sync '{name}'; "
                f"adaptkit push {entries[name].where} REMOTE, then adaptkit lock --update {name}"
            )
    changes += [LockChange(name, old[name], None) for name in old if name not in entries]
    if not dry_run:
        write_lock(project.lock, entries)
    return LockReport(project.lock, entries, tuple(changes))


def _sync(
    context: Context, project: Project, entries: Sequence[Locked], jobs: int
) -> tuple[Ready, ...]:
    from concurrent.futures import ThreadPoolExecutor

    once = {locked.digest: locked for locked in entries}
    failures: dict[str, AdaptkitError] = {}
    came: dict[str, tuple[Manifest, PlacedVersion] | None] = {}
    places = _project_places(context, project)
    with (
        context.store.working(),
        context.watch("syncing", len(once), "adapters") as step,
        ThreadPoolExecutor(jobs) as pool,
    ):
        running = {
            digest: pool.submit(_fetched, context, locked, places)
            for digest, locked in once.items()
            if locked.place
        }
        try:
            for digest, locked in once.items():
                try:
                    if not locked.place:
                        ensure_present(context, digest)
                    came[digest] = running[digest].result() if digest in running else None
                except AdaptkitError as error:
                    failures[locked.name] = error
                step(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        known = _known(context, came)
        ready = [
            _registered(
                context,
                project,
                locked,
                came[locked.digest],
                known.get((locked.adapter, locked.digest)),
            )
            for locked in entries
            if locked.digest in came
        ]
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures:
        raise StoreError(
            f"{len(failures)} of {len(entries)} adapters could not be brought here",
            why="; ".join(f"{name}: {error.summary}" for name, error in failures.items()),
            fix="the others are here; adaptkit sync --frozen goes on where it stopped",
        )
    return tuple(ready)


def _fetched(
    context: Context, locked: Locked, places: Places
) -> tuple[Manifest, PlacedVersion] | None:
    """Bring one adapter into the store, in a thread of its own.

    None when it was here and is sound.
    """
    from adaptkit.project.resolve import fetch_pinned

    try:
        context.store.keep(context.store.manifest(locked.digest))
        context.store.verify(locked.digest)
    except StoreError:
        return fetch_pinned(
            locked, places.open(locked.place), context.store, partial(admit, context)
        )
    return None


def _known(context: Context, digests: Collection[str]) -> dict[tuple[str, str], Version]:
    """The registered versions of these digests, by name and digest, some hundreds in one question."""
    wanted = sorted(digests)
    return {
        (version.name, version.digest): version
        for start in range(0, len(wanted), _ASKED)
        for version in context.registry.versions(digests=wanted[start : start + _ASKED])
    }


def _registered(
    context: Context,
    project: Project,
    locked: Locked,
    came: tuple[Manifest, PlacedVersion] | None,
    version: Version | None,
) -> Ready:
    """A locked artifact of the store as a version, which it may be already.

    A lock was reviewed, so its name may hold another base.
    """
    if version is None and (
        renamed := context.registry.versions(name=locked.adapter, digest=locked.digest)
    ):
        version = renamed[-1]
    if version is None:
        manifest = came[0] if came else context.store.manifest(locked.digest)
        placed = came[1] if came else None
        version, _ = context.registry.add_version(
            locked.adapter,
            manifest,
            message=placed.message if placed else "",
            author=placed.author if placed else "",
            actor=context.config.author,
            origin="pulled",
            number=locked.number,
        )
        learn(context, manifest.base, placed.author if placed else "")
        detail = {"place": locked.place, "number": locked.number, "locked": locked.name}
        emit(context, "pulled", version.ref, version.digest, detail, version.author)
    if came and locked.place:
        context.registry.record_placement(
            Placement(locked.place, came[1].number, locked.digest, context.now()),
            author=context.config.author,
        )
        place = _project_places(context, project).open(locked.place)
        receive_corrected(context, place, came[1].number, version)
    return Ready(locked, version, context.store.tree(locked.digest), came is not None)


def _project(given: str | os.PathLike[str] | None) -> Project:
    return Project.find(None if given is None else Path(given))
