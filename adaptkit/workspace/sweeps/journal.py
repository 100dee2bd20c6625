"""What a sweep has finished, by content: one JSON line each, synced before the next thing is begun.

A line that a kill cut short is left out. One process at a time writes the journal of a sweep; the lock ends with it.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from adaptkit.errors import Conflict
from adaptkit.io.file_lock import exclusive_lock
from adaptkit.io.files import fsync_directory, os_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = frozenset({"key", "what", "result", "when"})


class Journal:
    """The journal of one sweep, in a file that is only appended to."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._results = dict(_read(file))

    def result(self, key: str) -> str | None:
        """What a task made, when it was finished before."""
        return self._results.get(key)

    def note(self, key: str, what: str, result: str, when: str) -> None:
        """Write down that a task is finished; on disk when this returns."""
        line = json.dumps({"key": key, "what": what, "result": result, "when": when}) + "\n"
        with os_errors("write", self.file), self.file.open("ab") as file:
            if file.tell() and not _ends_whole(self.file):
                file.write(b"\n")
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._results[key] = result

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the sweep; `Conflict` when another process runs it."""
        with os_errors("write", self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.touch()
            fsync_directory(self.file.parent)
        lock = self.file.with_suffix(".lock")
        taken = Conflict(
            f"the sweep '{self.file.stem}' is running already",
            why=f"another process holds {lock}",
            fix="wait for it; what it finishes is not done again",
        )
        with exclusive_lock(lock, taken):
            self._results = dict(_read(self.file))
            yield


def _read(file: Path) -> Iterator[tuple[str, str]]:
    if not file.is_file():
        return
    with os_errors("read", file):
        lines = file.read_bytes().split(b"\n")
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # empty, or cut short by a kill
        if isinstance(entry, dict) and entry.keys() == KINDS:
            yield str(entry["key"]), str(entry["result"])


def _ends_whole(file: Path) -> bool:
    with file.open("rb") as opened:
        opened.seek(-1, os.SEEK_END)
        return opened.read(1) == b"\n"
