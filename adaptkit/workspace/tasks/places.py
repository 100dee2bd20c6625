"""Hash what places hold, on workers that reach them: each fetches every byte of a few versions and keeps none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError, StorageError, StoreError
from adaptkit.io.files import sha256_file
from adaptkit.io.staging import staging
from adaptkit.remotes.places import Places
from adaptkit.workspace.tasks.run import in_order
from adaptkit.workspace.tasks.supply import cache_folder, plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from adaptkit.extend import Executor, StorageBackend
    from adaptkit.types import PlacedVersion, Placement

A_TASK = 4
"""Versions in one task: each is a download."""


def damage_in_places(
    executor: Executor,
    endpoints: Mapping[str, str],
    placements: Sequence[Placement],
    step: Callable[[int], None],
) -> dict[tuple[str, int], Mapping[str, str] | StorageError]:
    """The damaged files of each placement, by place and number; or why a worker could not look."""
    tasks = [tuple(placements[i : i + A_TASK]) for i in range(0, len(placements), A_TASK)]
    found = in_order(
        executor,
        look_at_some,
        [(dict(endpoints), task) for task in tasks],
        lambda index: step(len(tasks[index])),
    )
    return {
        (placement.place, placement.number): damage
        for task, part in zip(tasks, found, strict=True)
        for placement, damage in zip(task, part, strict=True)
    }


def look_at_some(
    endpoints: Mapping[str, str], placements: Sequence[Placement]
) -> list[Mapping[str, str] | StorageError]:
    """On a worker: fetch and hash every file of these placements."""
    places = Places(plugins(), {}, endpoints)
    found: list[Mapping[str, str] | StorageError] = []
    for placement in placements:
        try:
            place = places.open(placement.place)
            placed = place.version(placement.number)
            found.append(damaged_files(place, placed, cache_folder()))
        except AdaptkitError as error:
            found.append(
                StorageError(
                    f"a worker cannot look at {placement.place}@{placement.number}",
                    why=error.summary,
                    fix="adaptkit fsck --deep without --on asks from here",
                )
            )
    return found


def damaged_files(
    place: StorageBackend, placed: PlacedVersion, work: Path, known: Collection[str] = ()
) -> dict[str, str]:
    """The damaged files of a version in a place, with the reason, but for those `known`.

    Each is fetched into a folder in `work`, hashed and deleted.
    """
    found: dict[str, str] = {}
    for entry in placed.manifest.files + placed.manifest.extras:
        if entry.path in known:
            continue
        with staging(work) as folder:
            try:
                place.pull(placed, [entry], folder)
            except (StorageError, StoreError) as error:
                found[entry.path] = error.why or error.what
                continue
            path = folder / entry.path
            came = sha256_file(path) if path.is_file() else "no file"
            if came != entry.sha256:
                found[entry.path] = f"expected sha256 {entry.sha256[:12]}…, found {came[:12]}…"
    return found
