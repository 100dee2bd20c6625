"""Fault points without a line of code in the product: every step that changes a disk or a database, counted.

`Faults` wraps, in this process only, the system calls of `os` that write and the statements and commits of SQLAlchemy.
At point number `at` it acts: kills the process, or lets the call fail. Running a piece of work with at = 0, 1, 2, …
until it gets through visits every point between any two writes.
"""

from __future__ import annotations

import errno
import os
import signal
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from concurrency import FORK
from sqlalchemy import Engine, event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CALLS = (
    "link",
    "rename",
    "replace",
    "unlink",
    "remove",
    "mkdir",
    "rmdir",
    "fsync",
    "pwrite",
    "write",
    "utime",
    "chmod",
    "fchmod",
    "open",
    "ftruncate",
    "truncate",
)


class Faults:
    """Counts the points; `seen` is what was passed."""

    def __init__(self, at: int, act: Callable[[], None], *, database: bool = True) -> None:
        self.at, self.act, self.database = at, act, database
        self.seen: list[str] = []

    def point(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) - 1 == self.at:
            self.act()

    @contextmanager
    def on(self) -> Iterator[Faults]:
        real = {name: getattr(os, name) for name in CALLS}
        for name, call in real.items():
            setattr(os, name, self._wrapped(name, call))
        hooks: list[tuple[str, Any]] = [
            (
                "before_cursor_execute",
                lambda connection, cursor, statement, *_: self.point(statement.split()[0]),
            ),
            ("commit", lambda connection: self.point("COMMIT")),
        ]
        for name, hook in hooks if self.database else ():
            event.listen(Engine, name, hook)
        try:
            yield self
        finally:
            for name, call in real.items():
                setattr(os, name, call)
            for name, hook in hooks if self.database else ():
                event.remove(Engine, name, hook)

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if name != "open" or (len(arguments) > 1 and arguments[1] & WRITING):
                self.point(name)
            return call(*arguments, **named)

        return wrapped


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def failing(number: int) -> Callable[[], None]:
    """An action that lets the call fail with an error of the system, such as ENOSPC."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


def killed_at(work: Callable[[], Any], at: int) -> str:
    """Run work in a process and kill it at that point; the point's name, or '' when it got through before."""
    here, there = FORK.Pipe(duplex=False)

    def run() -> None:
        def act() -> None:
            there.send(faults.seen[-1])
            kill()

        faults = Faults(at, act)
        with faults.on():
            work()
        there.send("")

    process = FORK.Process(target=run)
    process.start()
    there.close()
    try:
        found: str = here.recv()
    except EOFError:
        found = "died"
    process.join()
    here.close()
    assert process.exitcode == (-signal.SIGKILL if found else 0), (
        f"at {at}: {found}, {process.exitcode}"
    )
    process.close()
    return found


def failed_at(
    work: Callable[[], Any], at: int, number: int = errno.ENOSPC
) -> Exception | str | None:
    """Run work here and let the call at that point fail: what it raised, '' when it went on all the same, None when
    it got through before."""
    faults = Faults(at, failing(number), database=False)
    with faults.on():
        try:
            work()
        except Exception as error:
            return error
    return "" if len(faults.seen) > at else None
