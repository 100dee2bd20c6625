"""What the Hub cache tells of a base without reading its weights: it calls a blob by its sha256.

That makes an `fs1` that is claimed; `as1` needs headers only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adaptkit.bases.files.checkpoint import weight_files
from adaptkit.bases.identity import fs1, measure
from adaptkit.errors import BadBase
from adaptkit.types import BaseIdentity, Level

if TYPE_CHECKING:
    from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")


def claimed_by_cache(directory: Path) -> BaseIdentity | None:
    """The identity of a snapshot in the Hub cache by the names of its blobs; None for any other folder."""
    try:
        files = weight_files(directory)
    except BadBase:  # a snapshot of which only a part was downloaded
        return None
    shas = [file.resolve().name for file in files if file.is_symlink()]
    if len(shas) != len(files) or not all(_SHA256.fullmatch(sha) for sha in shas):
        return None
    measured = measure(directory, levels=("as1",))
    levels = (*measured.levels, Level(fs1(shas), measured=False))
    return BaseIdentity(
        measured.name,
        tuple(sorted(levels, key=lambda level: level.kind)),
        measured.quantised,
        measured.derived_from,
    )
