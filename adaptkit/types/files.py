"""The files and tensors that an artifact is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptkit.types.digests import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, order=True)
class FileEntry:
    """One file of an artifact: its relative posix path, size in bytes and sha256 (hex)."""

    path: str
    size: int
    sha256: str


def artifact_digest(files: Iterable[FileEntry]) -> str:
    """The name of an artifact: sha256 over the sorted list of (path, size, sha256)."""
    return digest_of([[f.path, f.size, f.sha256] for f in sorted(files)])


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor in a header: safetensors dtype (`F32`, `BF16`, …), shape, size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
