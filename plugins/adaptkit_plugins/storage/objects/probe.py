"""What a bucket guarantees, tested once per process for each bucket."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

from adaptkit.errors import StorageError
from adaptkit.extend import Promise
from adaptkit_plugins.storage.objects.bucket import Taken, Unsupported

if TYPE_CHECKING:
    from adaptkit_plugins.storage.objects.bucket import Bucket

PROBE = ".adaptkit-probe-"
HOLDS = "a version exists once its adaptkit.json does, which is only ever created; aliases move by compare-and-swap"
DEGRADED = (
    "this store ignores conditional writes: two pushes at the same moment are kept apart by listing only, "
    "an alias moved twice at once may keep either value, and a version can be overwritten"
)
UNSWAPPED = "this store creates only what is new, but swaps blindly: an alias moved twice at once may keep either value"
_known: dict[tuple[str, str, str], Promise] = {}
_lock = Lock()


def promise(bucket: Bucket) -> Promise:
    """What the bucket guarantees, tested now if it was not in this process."""
    name = (bucket.address.scheme, bucket.address.bucket, bucket.address.endpoint)
    with _lock:
        if name not in _known:
            _known[name] = probe(bucket)
        return _known[name]


def known(bucket: Bucket) -> Promise | None:
    """What was found before in this process, if anything was."""
    return _known.get((bucket.address.scheme, bucket.address.bucket, bucket.address.endpoint))


def probe(bucket: Bucket) -> Promise:
    """Create one key twice, then replace it by compare-and-swap with a stale value; leave nothing."""
    path = f"{PROBE}{os.urandom(12).hex()}"
    try:
        create_only, swap = _creates_once(bucket, path), _swaps(bucket, path)
    finally:
        with suppress(StorageError):
            bucket.delete([path])
    return Promise(
        create_only, swap, HOLDS if create_only and swap else UNSWAPPED if create_only else DEGRADED
    )


def _creates_once(bucket: Bucket, path: str) -> bool:
    try:
        bucket.put(path, b"one", "create")
        bucket.put(path, b"two", "create")
    except Taken:
        return bucket.get(path, 3)[0] == b"one"
    except Unsupported:
        pass
    return False


def _swaps(bucket: Bucket, path: str) -> bool:
    old = bucket.put(path, b"three")
    try:
        bucket.put(path, b"four", old)
    except (Taken, Unsupported):
        return False
    try:
        bucket.put(path, b"five", old)
    except Taken:
        return bucket.get(path, 4)[0] == b"four"
    return False
