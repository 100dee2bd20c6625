"""How long work shows its progress, and what callers get who show none."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from adaptkit.extend import Progress, no_progress

Watch = Callable[[str, int | None], AbstractContextManager[Progress]]
"""Given what is done and how much there is of it (None: unknown), a block in which progress is told."""


def nobody_watches(_what: str, _total: int | None) -> AbstractContextManager[Progress]:
    """Progress for callers that show none."""
    return nullcontext(no_progress)


def warn_in_python(text: str) -> None:
    """What adaptkit noticed, as a Python warning."""
    warnings.warn(text, stacklevel=4)
