"""A `.adaptkit/` that was found by walking upward leads nowhere else: it may have come with a cloned repository.

gc deletes old files of `tmp` and `trash`, and every write goes to `store`: with a link there, a repository would choose
which folder of this machine that is. Whoever keeps a store on a larger disk says so: `adaptkit trust DIR` records each
link with where it leads, and a workspace that is named by `--home` or `ADAPTKIT_HOME` may have any.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

from adaptkit.errors import NoWorkspace
from adaptkit.io.files import os_errors
from adaptkit.workspace.context.trust import Decisions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def refuse_links(home: Path) -> None:
    """Refuse a found workspace that holds a pipe or a device, or is or holds a link that the user did not trust."""
    links = links_of(home)
    if links and Decisions.of_user().verdict(home, content_of_links(home, links)) is not True:
        raise NoWorkspace(
            f"the workspace {home} is not used",
            why=f"it was only found, and {next(iter(links))} is a symbolic link, by which it could name any file of this machine",
            fix=f"if it is yours, say so: adaptkit trust {home}; or name it: adaptkit --home {home} …, or ADAPTKIT_HOME",
        )


def links_of(home: Path) -> Mapping[Path, str]:
    """The links of a workspace, itself and in its store, with where each leads; `NoWorkspace` for a pipe or a device."""
    return {path: os.path.realpath(path) for path in _links(home)}


def content_of_links(home: Path, links: Mapping[Path, str]) -> str:
    """The hash of what a decision on links is about: whose they are, and where each leads."""
    lines = [home, *(f"{path}\0{target}" for path, target in links.items())]
    return sha256("\0\0".join(map(str, lines)).encode(errors="surrogateescape")).hexdigest()


def _links(home: Path) -> Iterator[Path]:
    if home.is_symlink():
        yield home
    for folder in (home, home / "store"):
        if not folder.is_dir():
            continue
        with os_errors("read", folder), os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                if entry.is_symlink():
                    yield folder / entry.name
                elif not entry.is_file() and not entry.is_dir():
                    raise NoWorkspace(
                        f"the workspace {home} is not used",
                        why=f"it was only found, and {folder / entry.name} is neither a file nor a folder",
                        fix=f"if it is yours, say so: adaptkit --home {home} …, or ADAPTKIT_HOME",
                    )
