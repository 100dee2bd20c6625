"""What a file system guarantees, tested by trying it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from adaptkit.errors import Conflict, StorageError, StoreError
from adaptkit.extend import Promise
from adaptkit.io.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

HOLDS = "a version appears by one rename; aliases move under a lock"
UNLINKED = "this file system has no hard links: unchanged files are copied, and a file can be overwritten by a racer"
UNLOCKED = (
    "this file system does not lock files: an alias moved twice at once may keep either value"
)


def probe(nonce: Path) -> Promise:
    """Create one file twice, then lock it twice; `nonce` is the path of that file, which is deleted."""
    try:
        create_only, swaps = _creates_once(nonce), _locks(nonce)
    finally:
        nonce.unlink(missing_ok=True)
    return Promise(
        create_only,
        swaps,
        HOLDS if create_only and swaps else UNLOCKED if create_only else UNLINKED,
    )


def _creates_once(nonce: Path) -> bool:
    """Whether a file that is there is not created again; what was written is read back."""
    data = os.urandom(32)
    try:
        atomic_write(nonce, data, create_only=True)
    except StoreError:  # no hard links
        nonce.write_bytes(data)
        return False
    try:
        atomic_write(nonce, b"two", create_only=True)
    except Conflict:
        if nonce.read_bytes() == data:
            return True
        raise StorageError(
            f"cannot write {nonce.parent}",
            why="what is read back there is not what was written",
            fix="check that disk, or how it is mounted",
        ) from None
    return False


def _locks(nonce: Path) -> bool:
    """Whether a file that is locked cannot be locked again."""
    import fcntl

    with nonce.open("rb") as one, nonce.open("rb") as other:
        try:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
