"""Where a worker finds an artifact that a task names: the driver's store, its own cache, or a place. Always verified.

A worker opens no registry: what it must know travels with the task, and its results go back to the driver.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from adaptkit.errors import StoreError
from adaptkit.store.content_store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from adaptkit.plugin.manager import Plugins
    from adaptkit.types import Placement
    from adaptkit.workspace.context.context import Context


@dataclass(frozen=True, slots=True)
class Supply:
    """The driver's store, by its path, and the places that hold each artifact."""

    store: str
    placements: Mapping[str, tuple[Placement, ...]] = field(default_factory=dict)
    endpoints: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, context: Context, digests: Iterable[str]) -> Self:
        """What a worker must know to get these artifacts."""
        found = {digest: tuple(context.registry.placements(digest)) for digest in digests}
        return cls(
            str(context.store.root),
            {digest: placements for digest, placements in found.items() if placements},
            dict(context.config.endpoints),
        )

    def bring(self, digest: str) -> Path:
        """An artifact as a verified folder on this machine; `StoreError` says where it was looked for."""
        shared = Store(Path(self.store))
        if shared.holds(digest):
            return shared.tree(digest)
        own = Store(cache_folder())
        try:
            return own.tree(digest)
        except StoreError as error:
            placements = self.placements.get(digest, ())
            if not placements:
                raise StoreError(
                    f"{digest[:19]}… is not on this worker",
                    why=f"{self.store} is not its file system, and the artifact was never pushed anywhere",
                    fix="push it to a remote that workers reach: adaptkit push REF REMOTE",
                ) from error
        from adaptkit.remotes.places import Places
        from adaptkit.remotes.refetch import refetch

        places = Places(plugins(), {}, self.endpoints)
        refetch(digest, placements, places, own)
        return own.tree(digest)


def cache_folder() -> Path:
    """Where this worker keeps what it fetched: `ADAPTKIT_WORKER_CACHE`, else in the user's cache."""
    if given := os.environ.get("ADAPTKIT_WORKER_CACHE"):
        return Path(given)
    from platformdirs import user_cache_path

    return user_cache_path("adaptkit", appauthor=False) / "worker"


@cache
def plugins() -> Plugins:
    """The plugins of this process, loaded once."""
    from adaptkit.plugin.manager import Plugins

    return Plugins.from_environment()
