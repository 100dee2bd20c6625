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
    from collections.abc import Mapping
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


def content_of(config: str, files: Mapping[Path, bytes | None]) -> str:
    """The hash of what a decision is about: a configuration's text, and the files of the policy that it names."""
    hashed = sha256(sha256(config.encode()).digest())
    for data in files.values():
        hashed.update(b"none" if data is None else sha256(data).digest())
    return hashed.hexdigest()


def policy_files(policy: Path | None) -> Mapping[Path, bytes | None]:
    """A policy, and the public keys that it names, each read once: what is judged is what is used."""
    if policy is None:
        return {}
    from adaptkit.signing.policy_file import key_files

    text = _read(policy)
    keys = key_files(policy, text or b"")
    return {policy: text} | {path: _read(path) for path in keys}


def _read(path: Path) -> bytes | None:
    if not path.is_file():
        return None
    with os_errors("read", path), path.open("rb") as file:
        return file.read(_LARGEST + 1)


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
