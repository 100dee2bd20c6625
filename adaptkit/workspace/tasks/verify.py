"""Hash artifacts again, many at a time, on workers that see the driver's store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.errors import ExecutorError, StoreError
from adaptkit.io.progress.progress import no_progress
from adaptkit.store.content_store import Store
from adaptkit.workspace.tasks.run import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from adaptkit.extend import Executor

A_TASK = 64
"""Artifacts in one task, so that it takes longer than handing it over."""


def damage_of(
    executor: Executor, store: Path, digests: Sequence[str], step: Callable[[int], None]
) -> dict[str, StoreError]:
    """What is wrong with each damaged artifact, by digest."""
    if not executor.capabilities.shared_files:
        raise ExecutorError(
            "cannot hash the store on these workers",
            why=f"they do not see {store}",
            fix="--on local; or ?shared=yes behind the address, where they do",
        )
    tasks = [digests[i : i + A_TASK] for i in range(0, len(digests), A_TASK)]
    found = in_order(
        executor,
        verify_some,
        [(str(store), tuple(task)) for task in tasks],
        lambda index: step(len(tasks[index])),
    )
    return {digest: error for part in found for digest, error in part.items()}


def verify_some(
    store: str, digests: Sequence[str], step: Callable[[int], None] = no_progress
) -> dict[str, StoreError]:
    """In whichever process: the error of each artifact that is not what its digest says."""
    opened = Store(Path(store))
    damaged = {}
    for digest in digests:
        if (error := error_of(opened, digest)) is not None:
            damaged[digest] = error
        step(1)
    return damaged


def error_of(store: Store, digest: str) -> StoreError | None:
    """What is wrong with one artifact, hashed now."""
    try:
        store.verify(digest)
    except StoreError as error:
        return error
    return None
