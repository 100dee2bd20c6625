"""The process of one command: `adaptkit` and `python -m adaptkit`."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn


def run() -> NoReturn:
    """Run the command that this process was started for, and end the process.

    What a command loads lives as long as its process. To look through it for garbage while it grew,
    and three times more at the end, was 0.3 of `adaptkit list` and a quarter of importing torch and PEFT.
    """
    if sys.platform == "win32":
        sys.exit(
            "error: adaptkit does not run on Windows: it locks and links files as Linux and macOS do\n"
            "  install WSL (wsl --install), and adaptkit in it"
        )
    from adaptkit.io.machine.collection import put_off_collection

    put_off_collection()
    from adaptkit.cli import main

    code = main()
    gc.freeze()  # the collections with which Python ends pass over what stands
    sys.exit(code)


if __name__ == "__main__":
    run()
