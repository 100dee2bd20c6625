"""Leases: what running work still needs, so that a gc beside it leaves that alone.

A lease is a file that its process holds locked, with a line for each blob. The system releases the lock of a process
that dies, so a lease never outlives its work. The order that makes it safe: work first writes down the blob and then
looks whether it exists; gc first removes the blob and then reads what is written down.
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
                    with suppress(OSError):  # the next reader of an unlocked lease removes it
                        self._path.unlink()
                    os.close(self._descriptor)

    def keep(self, names: Iterable[str]) -> None:
        """Write down what the work needs, before looking whether it exists."""
        with self._lock, os_errors("write", self._path):
            lines = "".join(f"{name}\n" for name in names).encode()
            while lines:
                lines = lines[os.write(self._descriptor, lines) :]

    def held(self) -> set[str]:
        """What running work needs. Leases of dead processes are removed."""
        names: set[str] = set()
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
                    names.update(file.read().split())
            finally:
                os.close(descriptor)
        return names


def _taken(folder: Path) -> tuple[int, Path]:
    """A new lease, locked before another process could take it for that of a dead one."""
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
            os.close(descriptor)  # another process removed it between the two steps
