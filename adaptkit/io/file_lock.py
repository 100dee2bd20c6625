"""An exclusive lock on a file, which the system releases when its holder dies.

A file system without `flock` is an error: a lock that only exists as a file would outlive a killed holder.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock of `path`, an empty file created when missing; waits until other processes release it."""
    from filelock import FileLock

    lock = FileLock(path, fallback_to_soft=False)
    with os_errors("lock", path):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
