"""The process of one command: `adaptkit` and `python -m adaptkit`."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

# Loading SQLAlchemy and our modules makes 65,000 objects, with numpy 100,000; torch and peft 850,000.
LOADED = 150_000


def run() -> NoReturn:
    """Run the command that this process was started for, and end the process.

    What a command loads lives as long as its process. To look through it for garbage while it grew,
    and three times more at the end, was 0.3 of `adaptkit list` and a third of importing torch and peft.
    """
    put_off_collection(LOADED)
    from adaptkit.cli import main

    code = main()
    gc.freeze()  # the collections with which Python ends pass over what stands
    sys.exit(code)


def put_off_collection(objects: int) -> None:
    """Let the first garbage collection wait until so many objects were made; then the usual thresholds hold."""
    usual = gc.get_threshold()

    def as_usual(phase: str, _: object) -> None:
        if phase == "stop":
            gc.callbacks.remove(as_usual)
            gc.set_threshold(*usual)

    gc.callbacks.append(as_usual)
    gc.set_threshold(objects, *usual[1:])


if __name__ == "__main__":
    run()
