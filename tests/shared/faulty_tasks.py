"""Tasks that break where a test says: killed between two writes, on a full disk."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

WRITES = ("link", "replace", "rename", "fsync")


def bring_and_die(supply, digest, point, marks):
    """Bring an artifact; the first time, die before the write of that number. Returns how many writes there were."""
    seen, tree = _die_at(point, marks, lambda: supply.bring(digest))
    return seen, str(tree)


def bake_and_die(asked, point, marks):
    """Write a weight file of a bake; the first time, die before the write of that number."""
    from adaptkit.workspace.tasks.bake import bake_one

    return _die_at(point, marks, lambda: bake_one(asked))[1]


def _die_at(point, marks, work):
    """How many writes some work has, and what it returns."""
    seen = 0
    mark = Path(marks) / str(point)

    def counted(write):
        def before(*arguments, **named):
            nonlocal seen
            seen += 1
            if seen == point and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*arguments, **named)

        return before

    kept = {name: getattr(os, name) for name in WRITES}
    for name, write in kept.items():
        setattr(os, name, counted(write))
    try:
        found = work()
    finally:
        for name, write in kept.items():
            setattr(os, name, write)
    return seen, found


def bring_on_a_full_disk(supply, digest, room):
    """Bring an artifact where a file may have no more than so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        return str(supply.bring(digest))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
