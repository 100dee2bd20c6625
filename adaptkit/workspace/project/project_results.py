"""What the operations of a project return: its lock, and how each of its adapters stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.project.lockfile import Locked
    from adaptkit.types import Version


@dataclass(frozen=True, slots=True)
class LockChange:
    """One entry of a lock that is new (`old` None), gone (`new` None) or changed."""

    name: str
    old: Locked | None
    new: Locked | None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "old": self.old and self.old.to_json(),
            "new": self.new and self.new.to_json(),
        }


@dataclass(frozen=True, slots=True)
class LockReport:
    """A lock as it is now (or, on a dry run, would be), and what changed in it."""

    file: Path
    entries: Mapping[str, Locked]
    changes: tuple[LockChange, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "file": str(self.file),
            "adapters": {name: entry.to_json() for name, entry in self.entries.items()},
            "changes": [change.to_json() for change in self.changes],
        }


@dataclass(frozen=True, slots=True)
class Ready:
    """A locked adapter that is here.

    The version it is registered as, its verified folder, and whether it was fetched.
    """

    locked: Locked
    version: Version
    path: Path
    fetched: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.locked.name,
            "ref": self.version.ref,
            "digest": self.version.digest,
            "path": str(self.path),
            "place": self.locked.place,
            "number": self.locked.number,
            "fetched": self.fetched,
        }


@dataclass(frozen=True, slots=True)
class Outdated:
    """What is locked, what the project's line means now (`wanted`), and the `latest`.

    `note` says why these are not known.
    """

    name: str
    locked: Locked | None
    wanted: Locked | None = None
    latest: Locked | None = None
    note: str = ""

    @property
    def current(self) -> bool:
        """Whether locking again would change nothing and there is nothing higher."""
        digests = {
            entry.digest if entry else "" for entry in (self.locked, self.wanted, self.latest)
        }
        return not self.note and len(digests) == 1

    def to_json(self) -> dict[str, Any]:
        entries = {"locked": self.locked, "wanted": self.wanted, "latest": self.latest}
        return {
            "name": self.name,
            "current": self.current,
            "note": self.note,
            **{key: entry and entry.to_json() for key, entry in entries.items()},
        }
