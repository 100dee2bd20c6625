"""What libraries log about themselves whenever they are imported, kept off the terminal of a command."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET = {
    # PEFT and diffusers import it; on CPUs with AVX-512 BF16 it warns that an optional kernel was not downloaded
    "bitsandbytes.backends.cpu.ops": logging.ERROR,
}
"""The least level that is shown, by logger."""


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Show only errors of the loggers in `QUIET` while a workspace is open; what needs none waits for no `logging`."""
    before = {name: logging.getLogger(name).level for name in QUIET}
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
