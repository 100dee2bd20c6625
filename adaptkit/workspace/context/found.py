"""A `.adaptkit/` that was found by walking upward leads nowhere else: it may have come with a cloned repository.

gc deletes old files of `tmp` and `trash`, and every write goes to `store`: with a link there, a repository would choose
which folder of this machine that is. Whoever keeps a workspace behind links names it: `--home` or `ADAPTKIT_HOME`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from adaptkit.errors import NoWorkspace
from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def refuse_links(home: Path) -> None:
    """Refuse a found workspace that is a link, or holds a link, a pipe or a device, itself or in its store."""
    for path, kind in _strange(home):
        raise NoWorkspace(
            f"the workspace {home} is not used",
            why=f"it was only found, and {path} is {kind}, by which it could name any file of this machine",
            fix=f"if it is yours, say so: adaptkit --home {home} …, or ADAPTKIT_HOME",
        )


def _strange(home: Path) -> Iterator[tuple[Path, str]]:
    if home.is_symlink():
        yield home, "a symbolic link"
        return
    for folder in (home, home / "store"):
        if not folder.is_dir():
            continue
        with os_errors("read", folder), os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                if entry.is_symlink():
                    yield folder / entry.name, "a symbolic link"
                elif not entry.is_file() and not entry.is_dir():
                    yield folder / entry.name, "neither a file nor a folder"
