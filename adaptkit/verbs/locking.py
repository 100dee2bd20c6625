"""What a project needs: `adaptkit.toml`, pinned in `adaptkit.lock`, brought into the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError, NotFound, Refused, StoreError
from adaptkit.lockfile import alone, read_lock, write_lock
from adaptkit.places import Places
from adaptkit.project import LOCK, PROJECT, Project
from adaptkit.results import LockChange, LockReport, Outdated, Ready
from adaptkit.types import Placement
from adaptkit.verbs.shelf import Shelf

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from adaptkit.lockfile import Locked
    from adaptkit.pinning import Pinning
    from adaptkit.types import Manifest, PlacedVersion

_AT_ONCE = 4


class Locking(Shelf):
    """Pins what a project needs, and fetches it."""

    def lock(self, project: str | os.PathLike[str] | None = None, *, update: Sequence[str] = (),
             update_all: bool = False, force: bool = False, dry_run: bool = False) -> LockReport:  # fmt: skip
        """Write `adaptkit.lock`: what is locked stays, what is new or asked for differently is looked up.

        `update` names entries to look up again, `update_all` looks up all. A version that was rewritten where it lies
        is refused unless `force`.
        """
        found = _project(project)
        if unknown := sorted(set(update) - set(found.adapters)):
            raise NotFound(f"adapter in {PROJECT}", unknown[0], found.adapters)
        with alone(found, self.notify):
            return self._lock(found, set(found.adapters) if update_all else set(update), force=force, dry_run=dry_run)

    def sync(self, project: str | os.PathLike[str] | None = None, *, frozen: bool = False,
             jobs: int = _AT_ONCE) -> tuple[Ready, ...]:  # fmt: skip
        """Bring the store to the lock, `jobs` adapters at a time, and register what came.

        What the project asks for and the lock lacks is locked first; `frozen` refuses that, and writes no lock.
        """
        from adaptkit.pinning import disagreements

        found = _project(project)
        if frozen:
            entries = read_lock(found.lock)
            if told := disagreements(found, entries):
                what = f"{found.lock} does not fit {PROJECT}" if found.lock.is_file() else f"there is no {found.lock}"
                raise Refused(what, why="; ".join(told), fix=f"adaptkit lock, and put {LOCK} under version control")
        else:
            with alone(found, self.notify):
                entries = dict(self._lock(found, set()).entries)
        return self._sync(found, list(entries.values()), max(1, jobs))

    def outdated(self, project: str | os.PathLike[str] | None = None) -> tuple[Outdated, ...]:
        """What the lock pins beside what the project's line comes to now, and the highest version there is.

        What could not be looked up says why.
        """
        found = _project(project)
        entries, pinning = read_lock(found.lock), self._pinning(found)
        rows = []
        for name, asked in found.adapters.items():
            locked = entries.get(name)
            try:
                wanted = pinning.resolve(asked)
                rows.append(Outdated(name, locked, wanted, pinning.latest(asked, wanted)))
            except AdaptkitError as error:
                rows.append(Outdated(name, locked, note=error.what + (f": {error.why}" if error.why else "")))
        return tuple(rows)

    # ------------------------------------------------------------ how

    def _pinning(self, project: Project) -> Pinning:
        from adaptkit.pinning import Pinning

        return Pinning(self._project_places(project), self.version, lambda name: tuple(self.registry.versions(name=name)),
                       lambda digest: tuple(self.registry.placements(digest)))  # fmt: skip

    def _project_places(self, project: Project) -> Places:
        """Places by the project's remotes and the workspace's; where both have a name, the project's counts."""
        return Places(self.plugins, replace(self.config, remotes=dict(self.config.remotes) | dict(project.remotes)))

    def _lock(self, project: Project, update: set[str], *, force: bool = False, dry_run: bool = False) -> LockReport:
        from adaptkit.pinning import refuse_rewritten

        old, pinning = read_lock(project.lock), self._pinning(project)
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
                self.notify(f"{entries[name].where} was never pushed: nobody without this registry can sync '{name}'; "
                            f"adaptkit push {entries[name].where} REMOTE, then adaptkit lock --update {name}")  # fmt: skip
        changes += [LockChange(name, old[name], None) for name in old if name not in entries]
        if not dry_run:
            write_lock(project.lock, entries)
        return LockReport(project.lock, entries, tuple(changes))

    def _sync(self, project: Project, entries: Sequence[Locked], jobs: int) -> tuple[Ready, ...]:
        from concurrent.futures import ThreadPoolExecutor

        from adaptkit.pinning import told_of

        once = {locked.digest: locked for locked in entries}
        failures: dict[str, AdaptkitError] = {}
        came: dict[str, tuple[Manifest, PlacedVersion] | None] = {}
        places = self._project_places(project)
        with self.store.working(), self._watch("syncing", len(once)) as step, ThreadPoolExecutor(jobs) as pool:
            running = {
                digest: pool.submit(self._fetched, locked, places) for digest, locked in once.items() if locked.place
            }
            try:
                for digest, locked in once.items():
                    try:
                        if not locked.place:
                            self._present(digest)
                        came[digest] = running[digest].result() if digest in running else None
                    except AdaptkitError as error:
                        failures[locked.name] = error
                    step(1)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            ready = [self._registered(locked, came[locked.digest]) for locked in entries if locked.digest in came]
        if len(failures) == 1:
            raise next(iter(failures.values()))
        if failures:
            raise StoreError(f"{len(failures)} of {len(entries)} adapters could not be brought here", why=told_of(failures),
                             fix="the others are here; adaptkit sync --frozen goes on where it stopped")  # fmt: skip
        return tuple(ready)

    def _fetched(self, locked: Locked, places: Places) -> tuple[Manifest, PlacedVersion] | None:
        """Bring one adapter into the store, in a thread of its own; None when it was here and is sound."""
        from adaptkit.pinning import fetch_pinned

        try:
            self.store.keep(self.store.manifest(locked.digest))
            self.store.verify(locked.digest)
        except StoreError:
            return fetch_pinned(locked, places.open(locked.place), self.store, self._admit)
        return None

    def _registered(self, locked: Locked, came: tuple[Manifest, PlacedVersion] | None) -> Ready:
        """A locked artifact of the store as a version; a lock was reviewed, so its name may hold another base."""
        known = self.registry.versions(name=locked.adapter, digest=locked.digest)
        if known:
            version = known[-1]
        else:
            manifest = came[0] if came else self.store.manifest(locked.digest)
            placed = came[1] if came else None
            version, _ = self.registry.add_version(
                locked.adapter, manifest, message=placed.message if placed else "", author=placed.author if placed else "",
                origin="pulled", number=locked.number,
            )  # fmt: skip
            self._learn(manifest.base, placed.author if placed else "")
            detail = {"place": locked.place, "number": locked.number, "locked": locked.name}
            self._emit("pulled", version.ref, version.digest, detail)
        if came and locked.place:
            self.registry.record_placement(Placement(locked.place, came[1].number, locked.digest, self._now()),
                                           author=self.config.author)  # fmt: skip
        return Ready(locked, version, self.store.tree(locked.digest), came is not None)


def _project(given: str | os.PathLike[str] | None) -> Project:
    return Project.find(None if given is None else Path(given))
