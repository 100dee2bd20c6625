"""Check, hash and store adapter folders on workers that see them and the driver's store; registering is the driver's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.ingest import prepare
from adaptkit.bases.identity import base_shapes
from adaptkit.errors import AdaptkitError
from adaptkit.io.staging import staging
from adaptkit.store.content_store import Store
from adaptkit.workspace.tasks.supply import plugins

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from adaptkit.bases.known import Base
    from adaptkit.extend import Executor
    from adaptkit.types import Manifest


@dataclass(frozen=True, slots=True)
class AskedFolder:
    """One adapter folder to store, and the base that it is for."""

    path: str
    base: Base
    """Without shapes where its folder tells them."""
    shaped: bool
    include: tuple[str, ...]
    allow_pickle: bool
    force: bool
    created: str

    def base_there(self) -> Base:
        """The base with its shapes, read from headers on the worker."""
        if self.shaped and self.base.shapes is None and self.base.folder is not None:
            return replace(self.base, shapes=base_shapes(self.base.folder))
        return self.base


@dataclass(frozen=True, slots=True)
class StoredFolder:
    """A folder whose bytes are in the store: its manifest, what was noticed and what was left out."""

    manifest: Manifest
    warnings: tuple[str, ...]
    skipped: tuple[str, ...]


def stored_on(
    executor: Executor, store: Path, tmp: Path, folders: Sequence[AskedFolder]
) -> Iterator[StoredFolder | AdaptkitError]:
    """Each folder as it was stored, or why it was not; in order."""
    futures = [executor.submit(store_one, str(store), str(tmp), folder) for folder in folders]
    try:
        for future in futures:
            try:
                yield future.result()
            except AdaptkitError as error:
                yield error
    finally:
        for future in futures:
            future.cancel()


def store_one(store: str, tmp: str, folder: AskedFolder) -> StoredFolder:
    """On a worker: one folder, checked whole and stored."""
    path = Path(folder.path)
    base = folder.base_there()
    with (
        staging(Path(tmp)) as work,
        Adapter.open(path, folder.path, allow_pickle=folder.allow_pickle) as adapter,
    ):
        adapter.base_shapes = base.shapes
        prepared = prepare(
            adapter,
            plugins().method_for(adapter),
            base,
            created=folder.created,
            staging=work,
            include=folder.include,
            force=folder.force,
        )
        Store(Path(store)).add(prepared.manifest, prepared.sources)
        return StoredFolder(prepared.manifest, prepared.warnings, prepared.skipped)
