"""What workers of an executor found when they hashed the store and the places for `fsck`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from adaptkit.errors import StorageError
from adaptkit.workspace.tasks.places import damage_in_places
from adaptkit.workspace.tasks.run import open_executor
from adaptkit.workspace.tasks.verify import damage_of, verify_some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.errors import StoreError
    from adaptkit.extend import StorageBackend
    from adaptkit.types import PlacedVersion, Placement
    from adaptkit.workspace.context.context import Context


@dataclass(frozen=True, slots=True)
class Hashed:
    """The damaged artifacts by digest, and the damage of each placement by its place and number."""

    artifacts: Mapping[str, StoreError]
    placements: Mapping[tuple[str, int], Mapping[str, str] | StorageError]

    @classmethod
    def by(
        cls,
        context: Context,
        on: str | None,
        digests: Sequence[str],
        placements: Sequence[Placement],
    ) -> Self | None:
        """Have the workers of the executor in force hash all of these; None where there is none.

        Where they do not see the store, it is hashed by this process.
        """
        executor = open_executor(context, on)
        if executor is None:
            return None
        with executor:
            root = context.store.root
            shared = executor.capabilities.shared_files
            if not shared:
                context.notify(
                    f"the store is hashed by this process: the workers do not see {root}"
                )
            with context.watch("hashing", len(digests), "artifacts") as step:
                artifacts = (
                    damage_of(executor, root, digests, step)
                    if shared
                    else verify_some(str(root), digests, step)
                )
            if not placements:
                return cls(artifacts, {})
            with context.watch("fetching and hashing", len(placements), "placements") as step:
                endpoints = context.config.endpoints
                return cls(artifacts, damage_in_places(executor, endpoints, placements, step))

    def error(self, digest: str) -> StoreError | None:
        """What is wrong with an artifact of the store."""
        return self.artifacts.get(digest)

    def look(self, place: StorageBackend, placed: PlacedVersion) -> Mapping[str, str]:
        """The damaged files of a version in a place, with the reason: what it states itself, and what was hashed."""
        found = self.placements.get((place.url, placed.number))
        if found is None:  # never sound by default
            raise StorageError(
                f"no worker looked at {place.url}@{placed.number}",
                why="it was registered under another URL",
                fix="adaptkit fsck --deep without --on",
            )
        if isinstance(found, StorageError):
            raise found
        return {**found, **place.damage(placed)}
