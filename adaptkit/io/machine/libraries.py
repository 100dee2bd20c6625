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


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Show only errors of the loggers in `QUIET` until the last of all threads inside has left.

    A filter: a logger whose level is set makes logging forget what it knows of all loggers, of which there are thousands.
    """
    global _inside  # noqa: PLW0603  (loggers are the process's, as this count is)
    with _lock:
        if not _inside:
            for name in QUIET:
                logging.getLogger(name).addFilter(_shown)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1


def _shown(record: logging.LogRecord) -> bool:
    return not _inside or record.levelno >= QUIET[record.name]
