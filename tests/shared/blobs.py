"""Single blobs in a store, without the manifest that `Store.add` writes with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from adaptkit.types import FileEntry


def put_blob(store, source, path=""):
    """Put bytes or a file into the store; `path` is its name in an artifact, by default that of the file."""
    data = source.read_bytes() if isinstance(source, Path) else source
    entry = FileEntry(path or source.name, len(data), hashlib.sha256(data).hexdigest())
    store._put(source, entry)
    store._sync([entry])
    return entry
