"""Progress reporting: the callback types and a no-op default."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Protocol

Progress = Callable[[int], None]
"""Called with the number of bytes, tensors or modules that were just finished."""


class Watch(Protocol):
    """Given what is done, how much there is of it (None: unknown) and the unit: a block in which progress is reported."""

    def __call__(
        self, what: str, total: int | None, unit: str = "", /
    ) -> AbstractContextManager[Progress]: ...


def no_progress(count: int) -> None:
    """Ignore the progress."""


def no_watch(_what: str, _total: int | None, _unit: str = "") -> AbstractContextManager[Progress]:
    """Progress for callers that show none."""
    return nullcontext(no_progress)


def thread_safe(progress: Progress) -> Progress:
    """The same callback, called by one thread at a time."""
    lock = Lock()

    def report(count: int) -> None:
        with lock:
            progress(count)

    return report


def warn_in_python(text: str) -> None:
    """Issue a Python warning."""
    warnings.warn(text, stacklevel=4)
