"""Workspaces made once and copied: a copy takes a third of making an empty one, and a tenth of adding to it."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from adaptkit import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def copied(made: Path, folder: Path) -> Iterator[Workspace]:
    """A workspace in `folder` that holds what the one in `made` does; what it notices is collected in `.noticed`."""
    shutil.copytree(made, folder)
    noticed: list[str] = []
    with Workspace.open(folder / ".adaptkit", notify=noticed.append) as opened:
        opened.noticed = noticed  # type: ignore[attr-defined]
        yield opened
