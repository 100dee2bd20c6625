"""Bundles as the conformance tests push them: their bytes, pulled again, interrupted, and all at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from threading import Barrier
from typing import TYPE_CHECKING

from adaptkit.errors import Conflict
from adaptkit.io.progress.progress import no_progress
from adaptkit.testing.behind import FolderBehind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from adaptkit.extend import Bundle, StorageBackend
    from adaptkit.io.progress.progress import Progress
    from adaptkit.types import PlacedVersion, Receipt

LARGE = (3 << 19) + 7  # bytes: more than the buffers through which backends copy
TRIES = 50


def weights_of(seed: int) -> bytes:
    """Bytes that look like weights, other ones for each seed."""
    block = sha256(str(seed).encode()).digest()
    return (block * (LARGE // len(block) + 1))[:LARGE]


def contents(bundle: Bundle) -> Mapping[str, bytes]:
    return {path: source.read_bytes() for path, source in bundle.paths.items()}


def pulled(
    place: StorageBackend, placed: PlacedVersion, into: Path, progress: Progress = no_progress
) -> dict[str, bytes]:
    """Pull a whole version and read it."""
    into.mkdir()
    place.pull(placed, placed.manifest.files + placed.manifest.extras, into, progress)
    return {path: (into / path).read_bytes() for path in FolderBehind(into).paths()}


def interrupt_after(steps: int) -> Callable[[int], None]:
    """A progress callback that is interrupted, as by Ctrl-C, after `steps` calls."""
    left = iter(range(steps))

    def progress(_: int) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return progress


def race(place: StorageBackend, bundles: list[Bundle]) -> list[Receipt]:
    """Push them all at once, each through a client of its own that tries again after a conflict."""
    start = Barrier(len(bundles), timeout=60)

    def push(bundle: Bundle) -> Receipt:
        client = type(place).open(place.url)
        seen = client.list()
        start.wait()  # all have seen the same, and none has written yet
        for _ in range(TRIES):
            try:
                return client.push(bundle, seen)
            except Conflict:
                seen = client.list()
        raise AssertionError(f"{TRIES} conflicts in a row")

    with ThreadPoolExecutor(len(bundles)) as pool:
        return list(pool.map(push, bundles))
