"""`s3://`, `gs://`, `az://`: a bucket that a team shares, through obstore.

Notable choices:
- `vN/` is a plain PEFT directory whose `adaptkit.json` comes last and is only ever created: without it there is no
  version. Files of one push never stand beside the manifest of another: only who holds the claim of `vN/`, a key
  that names the files to come, writes there (`claims.py`)
- a file that an earlier version has is copied by the store, without its bytes being read again; a pull finds what rotted
- a killed push leaves its claim and what was sent; the next push of the same files joins and sends the rest. What
  nobody touched for a day, by the store's clock, is swept; parts of an upload that was killed are invisible and go by
  the bucket's own life-cycle rule (AbortIncompleteMultipartUpload)
- a bucket is tried once per process (`promises.py`). One that ignores conditions is used with a weaker promise, which
  every receipt repeats: writers are kept apart by listing, and `adaptkit.json` is read back
- what the store's error says is never shown, for keys and signatures stand in it (`faults.py`)
- a store that is busy is asked for its Retry-After, which obstore does not tell (`patience.py`)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.hookspecs import hookimpl
from adaptkit_plugins.storage.objects.place import ObjectPlace

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend import StorageBackend

__all__ = ["ObjectPlace"]


@hookimpl
def register_storage_backends(register: Callable[[type[StorageBackend]], None]) -> None:
    """Hand over the place."""
    register(ObjectPlace)
