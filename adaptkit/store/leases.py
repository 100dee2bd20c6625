"""Leases: what running work still needs, so that a gc beside it leaves that alone.

A lease is a file that its process holds locked, with a line for each blob. Whoever dies gives the lock back, so a
lease never outlives its work. The order that makes it safe: work first writes down the blob and then looks whether it
is there; gc first takes the blob away and then looks who wrote it down.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_SUFFIX = ".lease"


class Leases:
    """The leases in a folder; one instance may be shared by threads, and survives a fork."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._descriptor, self._path, self._depth, self._process = -1, folder, 0, os.getpid()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Inside, what `keep` writes down is left alone. May be nested, and entered by several threads."""
        with self._lock:
            if self._process != os.getpid():  # forked: the lease is our parent's
                if self._depth:
                    os.close(self._descriptor)
                self._depth, self._process = 0, os.getpid()
            if not self._depth:
                self._descriptor, self._path = _taken(self.folder)
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if not self._depth:
                    with suppress(
                        OSError
                    ):  # whoever looks at a lease that nobody holds clears it away
                        self._path.unlink()
                    os.close(self._descriptor)

    def keep(self, names: Iterable[str]) -> None:
        """Write down what the work needs, before looking whether it is there."""
        with self._lock, os_errors("write", self._path):
            lines = "".join(f"{name}\n" for name in names).encode()
            while lines:
                lines = lines[os.write(self._descriptor, lines) :]

    def held(self) -> set[str]:
        """What living work needs. The leases of the dead are cleared away."""
        found: set[str] = set()
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            except BlockingIOError:
                with os.fdopen(os.dup(descriptor)) as file:
                    found.update(file.read().split())
            finally:
                os.close(descriptor)
        return found


def _taken(folder: Path) -> tuple[int, Path]:
    """A new lease, locked by us before anybody could take it for a dead one's."""
    with os_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = folder / f"{os.getpid()}-{os.urandom(6).hex()}{_SUFFIX}"
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666
            )
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor, path
            os.close(descriptor)  # somebody cleared it away between the two steps
