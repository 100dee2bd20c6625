"""Whether a configuration that is merely found may decide something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import NotFound
from adaptkit.io.safe_paths import user_path
from adaptkit.workspace.context.home import FOLDER, Home

if TYPE_CHECKING:
    import os

    from adaptkit.workspace.context.context import Context


def trust(
    context: Context, folder: str | os.PathLike[str] | None = None, *, revoke: bool = False
) -> tuple[Home, tuple[str, ...]]:
    """Let the configuration in `folder/.adaptkit` (None: the one in force) count as it is now, or no more.

    Returns its home, and the settings that this is about. After a change of the file by others it has to
    be trusted again.
    """
    home = context.home
    if folder is not None:
        path = user_path(folder).absolute()
        home = Home(path if path.name == FOLDER else path / FOLDER)
    if not home.config_file.is_file():
        raise NotFound(
            "configuration",
            str(home.config_file),
            fix="give the folder that has .adaptkit/config.toml: adaptkit trust DIR",
        )
    keys = home.decide(trusted=not revoke)
    vars(context).pop("config", None)  # read again when it is next asked for
    return home, keys
