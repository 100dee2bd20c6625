"""The folder that a bake works in, `OUT.partial`: its journal of finished weight files, and how it gets its name."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from adaptkit.errors import Refused
from adaptkit.io.files import atomic_write, fsync_directory, os_errors
from adaptkit.io.staging import rename_into

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

JOURNAL = "adaptkit-bake.json"


@dataclass(slots=True)
class WorkFolder:
    """A bake in progress. `finished` are the weight files that are there to stay, whatever happens."""

    target: Path
    path: Path
    key: str
    """Of adapter, base and dtype; the journal has it too."""
    finished: list[str]
    sync: bool

    @classmethod
    def open(cls, target: Path, key: str, *, clean: bool, sync: bool) -> Self:
        """A new folder, or what an interrupted bake of the same `key` left; `Refused` for what another left."""
        path = target.with_name(target.name + ".partial")
        folder = cls(target, path, key, [], sync)
        with os_errors("write", path):
            if clean:
                shutil.rmtree(path, ignore_errors=True)
            if path.exists():
                folder.finished = _finished(path, key)
            else:
                path.mkdir(parents=True)
                folder._write_journal()
        return folder

    def note(self, files: Sequence[str]) -> None:
        """These files are on disk under their names: the same bake again keeps them.

        Without sync they are not noted, because after a power cut a file may have a name and no bytes.
        """
        if not self.sync:
            return
        self.finished.extend(files)
        sync_folders(self.path, (file for file in files if "/" in file))
        self._write_journal()

    def _write_journal(self) -> None:
        data = json.dumps({"key": self.key, "finished": self.finished}).encode()
        atomic_write(self.path / JOURNAL, data, sync=self.sync)

    def drop(self) -> None:
        """Remove it: the same bake would end where this one did."""
        shutil.rmtree(self.path, ignore_errors=True)

    def set_aside(self) -> None:
        """Keep a finished model that did not pass its check, as `OUT.failed`."""
        failed = failed_name(self.target)
        with os_errors("write", failed):
            shutil.rmtree(failed, ignore_errors=True)
            (self.path / JOURNAL).unlink()
            self.path.rename(failed)

    def give_name(self) -> None:
        """Make the finished model appear as `target`."""
        with os_errors("write", self.target):
            (self.path / JOURNAL).unlink()
            for left in self.path.rglob(".*.tmp"):  # of workers that were killed
                left.unlink()
            if self.target.is_dir():
                self.target.rmdir()
        rename_into(self.path, self.target, sync=self.sync)


def failed_name(out: Path) -> Path:
    """Where a model goes that did not pass its check."""
    return out.with_name(f"{out.name}.failed")


def read_journal(work: Path) -> dict[str, Any]:
    """The journal of a bake in progress: its `key`, and which files are `finished`; empty where there is none."""
    try:
        journal = json.loads((work / JOURNAL).read_bytes())
    except (OSError, ValueError):
        return {}
    return journal if isinstance(journal, dict) else {}


def sync_folders(work: Path, files: Iterable[str]) -> None:
    """Make the names of these files survive a power cut."""
    for folder in {(work / file).parent for file in files}:
        fsync_directory(folder)


def _finished(path: Path, key: str) -> list[str]:
    """What the journal lists and the folder has: a name may be lost in a power cut although the journal is not."""
    journal = read_journal(path)
    if journal.get("key") != key and (journal or any(path.iterdir())):
        raise Refused(
            f"{path} is left of another bake",
            why="the adapter, the base or the dtype was another",
            fix="--clean drops it and begins anew",
        )
    return [str(name) for name in journal.get("finished", ()) if (path / str(name)).is_file()]
