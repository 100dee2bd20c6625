"""A picture that is drawn when long work is done: what it needs is looked for before that begins."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adaptkit.errors import Refused, install_line

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
        if find_spec("matplotlib") is None:
            raise Refused(
                f"cannot draw {path}", why="matplotlib is not installed", fix=install_line("plot")
            )
        return path
