"""Sweeps: evaluate, merge, distil, gate, promote and push sets of adapters, as a file says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.io.safe_paths import user_path
from adaptkit.workspace.context.executor import executor_url

if TYPE_CHECKING:
    import os

    from adaptkit.workspace import Workspace
    from adaptkit.workspace.sweeps.walk import Swept


def sweep(
    workspace: Workspace,
    file: str | os.PathLike[str],
    *,
    on: str | None = None,
    dry_run: bool = False,
    png: str | os.PathLike[str] | None = None,
) -> Swept:
    """Carry out what a YAML file describes, on an executor if one is named; with `dry_run`, only plan it.

    What is done already, with the same inputs, is not done again. `png` is a file for a picture of adapters, suites and
    gates.
    """
    from adaptkit.workspace.sweeps.board import check_picture, draw
    from adaptkit.workspace.sweeps.file import read
    from adaptkit.workspace.sweeps.run import carry_out

    on = executor_url(workspace, on)
    path = user_path(file)
    written = read(path)
    out = None if png is None else user_path(png)
    if out is not None:
        check_picture(written.file, out)
    swept = carry_out(workspace, written, on=on, dry=dry_run)
    if out is not None:
        draw(swept.board, swept.name, out)
    return swept
