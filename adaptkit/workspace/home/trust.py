"""Whether a configuration, or a link, that is merely found may decide something."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adaptkit.errors import NotFound
from adaptkit.io.safe_paths import user_path
from adaptkit.workspace.context.home import FOLDER, Home

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.workspace.context.context import Context


@dataclass(frozen=True, slots=True)
class Trusted:
    """What a decision on a home was about: the settings of its configuration, and its links with where each leads."""

    home: Home
    sets: tuple[str, ...] = ()
    links: Mapping[Path, str] = field(default_factory=dict)


def trust(
    context: Context, folder: str | os.PathLike[str] | None = None, *, revoke: bool = False
) -> Trusted:
    """Let the configuration and the links of `folder/.adaptkit` (None: the one in force) count as they are now, or no more.

    After a change of the file, or of where a link leads, it has to be trusted again.
    """
    home = context.home
    if folder is not None:
        path = user_path(folder).absolute()
        home = Home(path if path.name == FOLDER else path / FOLDER)
    links = home.decide_links(trusted=not revoke)
    if not links and not home.config_file.is_file():
        raise NotFound(
            "configuration",
            str(home.config_file),
            fix="give the folder that has .adaptkit/config.toml: adaptkit trust DIR",
        )
    keys = home.decide(trusted=not revoke) if home.config_file.is_file() else ()
    vars(context).pop("config", None)  # read again when it is next asked for
    return Trusted(home, keys, links)
