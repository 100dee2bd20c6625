"""A picture that is drawn when long work is done: what it needs is looked for before that begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adaptkit.errors import requires_extra

if TYPE_CHECKING:
    from typing import Any


class Picture(click.Path):
    """The PNG to write: its folder is there, and so is the library that draws."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not os.access(path.parent, os.W_OK):
            why = "is no folder" if not path.parent.is_dir() else "cannot be written"
            self.fail(f"{path.parent} {why}", param, ctx)
        with requires_extra("plot", f"cannot draw {path}"):
            from matplotlib.figure import Figure  # noqa: F401  (what every plot draws on)
        return path
