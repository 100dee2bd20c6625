"""What passes between the core and a storage backend in a push; plugins find these names in `adaptkit.extend`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.types import FileEntry, Manifest, PlacedVersion


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a push carries: the version as this registry knows it, and where each file's bytes lie.

    `placed.number` is the number here; the place may have to give another (DESIGN section 2).
    """

    placed: PlacedVersion
    paths: Mapping[str, Path]

    @property
    def manifest(self) -> Manifest:
        return self.placed.manifest

    @property
    def files(self) -> tuple[FileEntry, ...]:
        return self.manifest.files + self.manifest.extras


@dataclass(frozen=True, slots=True)
class Promise:
    """What a place guarantees, learned by trying: shown by `remote check` and recorded with a push."""

    create_only: bool
    compare_and_swap: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class PushOptions:
    """What a person may ask of a push. Most places know none of it, and say so (`StorageBackend.asked`)."""

    create: bool = False
    """Make the place when it is not there, where that takes a decision (a repository on the Hub)."""
    private: bool = False
    """Made so that only those may read it who were given the right."""
    create_pr: bool = False
    """Only propose: others look at it, and nothing has a number before they agree."""
    branch: str = ""
    """Another line of versions than the main one."""


Progress = Callable[[int], None]
"""Called with the number of bytes that just crossed."""


def no_progress(count: int) -> None:
    """For work that nobody watches."""
