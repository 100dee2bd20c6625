"""What libraries log about themselves whenever they are imported, kept out of what people read."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET = {
    # PEFT and diffusers import it; on CPUs with AVX-512 BF16 it warns that an optional kernel was not downloaded
    "bitsandbytes.backends.cpu.ops": logging.ERROR,
    # checkpoints of a short training have one time of writing: it then goes by their numbers, which is right
    "transformers.trainer_utils": logging.ERROR,
}
"""The least level that is shown, by logger."""

_lock = Lock()
_inside = 0
_before: dict[str, int] = {}


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Show only errors of the loggers in `QUIET` until the last of all threads inside has left."""
    global _inside  # noqa: PLW0603  (levels are the process's, as this count is)
    with _lock:
        if not _inside:
            for name, level in QUIET.items():
                _before[name] = logging.getLogger(name).level
                logging.getLogger(name).setLevel(level)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                for name, level in _before.items():
                    logging.getLogger(name).setLevel(level)
