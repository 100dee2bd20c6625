"""Access to what is stored under a place, past its backend, for the tests that damage it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path


class Behind(Protocol):
    """Access to what is stored under a place, past the backend; paths are relative to the place."""

    def write(self, path: str, data: bytes) -> None:
        """Put a file there, or other bytes into one that is there."""

    def paths(self) -> AbstractSet[str]:
        """Every file there, hidden ones too."""


class FolderBehind:
    """`Behind` for a place that is a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, path: str, data: bytes) -> None:
        """Put a file there, or other bytes into one that is there."""
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.chmod(0o644)
        target.write_bytes(data)

    def paths(self) -> AbstractSet[str]:
        """Every file there, hidden ones too."""
        return {
            path.relative_to(self._folder).as_posix()
            for path in self._folder.rglob("*")
            if path.is_file()
        }
