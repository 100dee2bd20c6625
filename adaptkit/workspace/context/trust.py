"""Which configuration files that were merely found may decide something.

A `.adaptkit/` found by walking upward may have come with a cloned repository, or belong to whoever owns a folder
above. It may hold adapters and remotes; servers, credentials' destinations, database, author, policy and switched-off
reviews count only when the user trusted this very content (`adaptkit trust`), and so do links. git's `safe.directory`
and direnv are the models. What was decided is kept in the user's own configuration folder, by path and hash.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError
from adaptkit.io.files import atomic_write, os_errors

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the user decided on found files: `file` maps each path to a hash and a verdict."""

    file: Path

    @classmethod
    def of_user(cls) -> Decisions:
        """Those in the user's own configuration folder."""
        from platformdirs import user_config_path

        return cls(user_config_path("adaptkit", appauthor=False) / "trusted.json")

    def verdict(self, path: Path, content: str) -> bool | None:
        """Whether this content was trusted; None when that was never decided."""
        entry = self._read().get(str(path.resolve()))
        if not isinstance(entry, dict) or entry.get("sha256") != content:
            return None
        return entry.get("trusted") is True

    def record(self, path: Path, content: str, *, trusted: bool) -> None:
        """Remember a decision; the newest on a path counts."""
        from filelock import FileLock

        with os_errors("write", self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.file}.lock"):
                entries = self._read() | {
                    str(path.resolve()): {"sha256": content, "trusted": trusted}
                }
                text = json.dumps(entries, indent=2, sort_keys=True) + "\n"
                atomic_write(self.file, text.encode())
                self.file.chmod(0o600)

    def _read(self) -> dict[str, Any]:
        if not self.file.is_file():
            return {}
        try:
            with os_errors("read", self.file):
                found = json.loads(self.file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise AdaptkitError(
                f"cannot read {self.file}",
                why=str(error),
                fix="delete it, and decide again: adaptkit trust DIR",
            ) from error
        return found if isinstance(found, dict) else {}


def content_of(config: Path, policy: Path | None) -> str:
    """The hash of what a decision is about: the configuration, and the policy that it names."""
    hashed = sha256()
    for path in filter(None, (config, policy)):
        if path.is_file():
            with os_errors("read", path), path.open("rb") as file:
                hashed.update(sha256(file.read(_LARGEST)).digest())
        else:
            hashed.update(b"none")
    return hashed.hexdigest()


def owner_of(path: Path) -> str:
    """Who owns a file, when that is another user; else empty."""
    owner = path.stat().st_uid
    if not hasattr(os, "geteuid") or owner == os.geteuid():
        return ""
    import pwd

    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return str(owner)
