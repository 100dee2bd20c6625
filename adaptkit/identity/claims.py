"""What is told of a base without reading its weights: by a repository's metadata, or by the Hub cache's file names.

The cache calls a blob by its sha256, and the Hub tells the sha256 of every large file; both make an `fs1` that is
claimed. `as1` needs headers only, which a repository gives by range requests.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adaptkit.identity.layout import declared_quantisation, weight_files
from adaptkit.identity.levels import as1, fs1, measure
from adaptkit.identity.tied import candidates
from adaptkit.types import BaseIdentity, Level

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.extend import PublishedModel

_SHA256 = re.compile(r"[0-9a-f]{64}")


def claimed(model: PublishedModel) -> BaseIdentity:
    """The identity that a repository's metadata gives. Tied tensors that are both there would need their bytes: no `as1` then."""
    levels = []
    forms = {name: (info.dtype, info.shape) for name, info in (model.tensors or {}).items()}
    if forms and not candidates(forms, model.config):
        levels.append(Level(as1(forms), measured=False))
    if model.files and all(_SHA256.fullmatch(sha) for sha in model.files.values()):
        levels.append(Level(fs1(model.files.values()), measured=False))
    return BaseIdentity(model.name, tuple(levels), declared_quantisation(model.config), model.derived_from)


def claimed_by_cache(directory: Path) -> BaseIdentity | None:
    """The identity of a snapshot in the Hub cache by the names of its blobs; None for any other folder."""
    shas = [file.resolve().name for file in weight_files(directory) if file.is_symlink()]
    if len(shas) != len(weight_files(directory)) or not all(_SHA256.fullmatch(sha) for sha in shas):
        return None
    told = measure(directory, levels=("as1",))
    levels = (*told.levels, Level(fs1(shas), measured=False))
    return BaseIdentity(
        told.name, tuple(sorted(levels, key=lambda level: level.kind)), told.quantised, told.derived_from
    )
