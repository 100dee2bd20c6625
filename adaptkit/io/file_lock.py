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

    from adaptkit.errors import AdaptkitError


@contextmanager
def exclusive_lock(path: Path, taken: AdaptkitError | None = None) -> Iterator[None]:
    """Hold the lock of `path`, an empty file created when missing.

    While another process holds it, this one waits, or raises `taken`.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=-1 if taken is None else 0, fallback_to_soft=False)
    with os_errors("lock", path):
        try:
            lock.acquire()
        except Timeout as error:  # which is an OSError too
            assert taken is not None
            raise taken from error
    try:
        yield
    finally:
        lock.release()
