"""Resolve the requirements of a project to pinned digests, and fetch what is pinned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import Corrupt, NotFound, Refused
from adaptkit.io.progress.progress import no_progress
from adaptkit.project.lockfile import Locked
from adaptkit.project.requirements import PROJECT
from adaptkit.remotes import transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adaptkit.extend import StorageBackend
    from adaptkit.io.progress.progress import Progress
    from adaptkit.project.requirements import Asked, Project
    from adaptkit.remotes.places import Places
    from adaptkit.store.content_store import Store
    from adaptkit.types import Manifest, PlacedVersion, Placement, Version


@dataclass(frozen=True, slots=True)
class Pinning:
    """Looks things up in places and in the registry.

    `version` returns the version of a reference, `versions` all of a name, `placements` where a digest was pushed.
    """

    places: Places
    version: Callable[[str], Version]
    versions: Callable[[str], tuple[Version, ...]]
    placements: Callable[[str], tuple[Placement, ...]]

    def resolve(self, asked: Asked) -> Locked:
        """The version that a line of the project means now."""
        parsed = asked.ref
        if isinstance(parsed, (refs.UrlRef, refs.RemoteRef)):
            place, selector = self.places.to_pull(asked.source)
            return _placed(asked, place, self._choose(asked, place, selector))
        if not asked.numbers.text:
            return self._registered(asked, self.version(asked.source))
        known = {version.number: version for version in self.versions(asked.source)}
        number = asked.numbers.best(known)
        if number is None:
            raise NotFound("version", str(asked), (version.ref for version in known.values()))
        return self._registered(asked, known[number])

    def latest(self, asked: Asked, locked: Locked) -> Locked:
        """The highest number of what is locked, whether the project would take it or not."""
        parsed = asked.ref
        if not asked.numbers.text and getattr(parsed, "selector", None) is None:
            return locked  # which was the highest a moment ago
        if isinstance(parsed, (refs.UrlRef, refs.RemoteRef)):
            place, _ = self.places.to_pull(asked.source)
            return _placed(asked, place, transfer.choose(place, None))
        return self._registered(asked, self.version(locked.adapter))

    def _choose(
        self, asked: Asked, place: StorageBackend, selector: refs.Selector | None
    ) -> PlacedVersion:
        if not asked.numbers.text:
            return transfer.choose(place, selector)
        placed = transfer.placed_versions(place)
        number = asked.numbers.best(one.number for one in placed)
        if number is None:
            raise NotFound(
                f"version in {place.url}", asked.numbers.text, [str(one.number) for one in placed]
            )
        return transfer.choose(place, refs.Selector("number", str(number)))

    def _registered(self, asked: Asked, version: Version) -> Locked:
        placed = max(
            self.placements(version.digest), key=lambda placement: placement.when, default=None
        )
        return Locked(
            asked.name,
            str(asked),
            version.name,
            version.digest,
            version.method,
            version.base,
            placed.place if placed else "",
            placed.number if placed else version.number,
        )


def disagreements(project: Project, entries: Mapping[str, Locked]) -> tuple[str, ...]:
    """How a project and its lock differ, one line each; empty when the lock has exactly what is required."""
    differences = []
    for name, asked in project.adapters.items():
        if name not in entries:
            differences.append(f"'{name}' (line {asked.line} of {PROJECT}) is not locked")
        elif entries[name].asked != str(asked):
            differences.append(
                f"'{name}' is {asked} (line {asked.line} of {PROJECT}) and was locked as {entries[name].asked}"
            )
    differences += [
        f"'{name}' is locked and no longer in {PROJECT}"
        for name in entries
        if name not in project.adapters
    ]
    return tuple(differences)


def refuse_rewritten(old: Locked, new: Locked) -> None:
    """A number in a place means one digest for ever; `Refused` when it means another now."""
    if (
        (old.place, old.number) == (new.place, new.number)
        and old.place
        and old.digest != new.digest
    ):
        raise _rewritten(
            old,
            new.digest,
            f"ask who pushed there; if it is intended: adaptkit lock --update {old.name} --force",
        )


def fetch_pinned(
    locked: Locked,
    place: StorageBackend,
    store: Store,
    admit: Callable[[StorageBackend, PlacedVersion], object],
    progress: Progress = no_progress,
) -> tuple[Manifest, PlacedVersion]:
    """Fetch what is pinned into the store; `Refused` when the place has something else under that number.

    `admit` is called before a byte is fetched, and raises when the policy does not allow it. Only the digest counts:
    the same artifact under another number of the place is accepted.
    """
    try:
        placed = transfer.choose(place, refs.Selector("number", str(locked.number)))
        digest = placed.manifest.digest
    except (NotFound, Corrupt):
        placed, digest = None, "nothing"
    if placed is None or digest != locked.digest:
        others = [
            other
            for other in transfer.placed_versions(place)
            if other.manifest.digest == locked.digest
        ]
        if not others:
            raise _rewritten(
                locked,
                digest,
                f"ask who pushed there to restore it, or take another version in {PROJECT} "
                f"and lock it: adaptkit lock --update {locked.name}",
            )
        placed = others[-1]
    _check_base(locked, placed)
    admit(place, placed)
    return transfer.fetch(place, placed, store, progress), placed


def _placed(asked: Asked, place: StorageBackend, placed: PlacedVersion) -> Locked:
    manifest = placed.manifest
    if not placed.described or not placed.number:
        raise Refused(
            f"cannot lock '{asked.name}': {place.url} has no numbered version",
            why="adaptkit did not make it",
            fix=f"adaptkit pull {place.url} --name {asked.name}, push it to a place of yours, and name that",
        )
    return Locked(
        asked.name,
        str(asked),
        asked.name,
        manifest.digest,
        manifest.method,
        manifest.base,
        place.url,
        placed.number,
    )


def _check_base(locked: Locked, placed: PlacedVersion) -> None:
    """The base is not part of the digest: the base recorded in the place must not contradict the lock."""
    for level in locked.base.levels:
        now = placed.manifest.base.level(level.kind)
        if now is not None and now.value != level.value:
            raise Refused(
                f"{locked.where} is for another base than when '{locked.name}' was locked",
                why=f"{now.value[:19]}… now, {level.value[:19]}… in the lock",
                fix="its adaptkit.json was rewritten: ask who pushed there",
            )


def _rewritten(locked: Locked, digest: str, fix: str) -> Refused:
    holds = (
        f"it holds {digest[:19]}… now"
        if digest != "nothing"
        else "that version is gone or cannot be read"
    )
    return Refused(
        f"{locked.where} is not what '{locked.name}' was locked to",
        why=f"{holds}, and the lock pins {locked.digest[:19]}…",
        fix=fix,
    )
