"""What is expensive is made once a run: by whichever worker of pytest-xdist is first, while the others wait."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary folder that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """The folder that `make(folder)` filled, made when the first worker asks for it.

    A make that failed is tried again by the next worker, on an empty folder of another name.
    """
    run = folder_of_the_run(tmp_path_factory)
    with FileLock(run / f"{name}.lock"):
        done = run / f"{name}.done"
        if not done.exists():
            made = Path(tmp_path_factory.mktemp(name))
            make(made)
            done.write_text(str(made))
        return Path(done.read_text())
