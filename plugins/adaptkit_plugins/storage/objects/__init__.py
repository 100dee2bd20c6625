"""`s3://`, `gs://`, `az://`: a bucket that a team shares, through obstore.

Notable choices:
- `vN/` is a plain PEFT directory whose `adaptkit.json` comes last and is only ever created: without it there is no
  version. Files of one push are never stored beside the manifest of another: only a push that holds the claim of
  `vN/`, a key that names the files to come, writes there (`claims.py`)
- a file that an earlier version has is copied by the store, without its bytes being read again; a pull finds corrupt bytes
- a killed push leaves its claim and what was sent; the next push of the same files joins and sends the rest. What
  was not touched for a day, by the store's clock, is swept; parts of an upload that was killed are invisible and go by
  the bucket's own life-cycle rule (AbortIncompleteMultipartUpload)
- a bucket is tried once per process (`probe.py`). One that ignores conditions is used with a weaker promise, which
  every receipt repeats: writers are kept apart by listing, and `adaptkit.json` is read back
- the text of a store's error is never shown, for it holds keys and signatures (`errors.py`)
- a store that is busy is asked for its Retry-After, which obstore does not show (`retries.py`)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.hookspecs import hookimpl
from adaptkit_plugins.storage.objects.backend import ObjectBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend import StorageBackend

__all__ = ["ObjectBackend"]


@hookimpl
def register_storage_backends(register: Callable[[type[StorageBackend]], None]) -> None:
    """Register the backend."""
    register(ObjectBackend)
