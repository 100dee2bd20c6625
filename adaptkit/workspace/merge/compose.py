"""Make what a recipe file says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import staging
from adaptkit.workspace.merge.merge import merge

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from adaptkit.workspace.context.context import Context
    from adaptkit.workspace.results import Merged


def compose(
    context: Context,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    out: str | os.PathLike[str] | None = None,
    message: str = "",
    alias: str | None = None,
    force: bool = False,
    new_version: bool = False,
    allow_pickle: bool = False,
    workers: int | None = None,
) -> Merged:
    """Make what a recipe file says; the other arguments are those of `merge`."""
    from adaptkit.merge import recipe_file

    file = recipe_file.read(user_path(path))
    with staging(context.tmp) as work:
        made: dict[Path, Path] = {}
        for number, entry in enumerate(file.adapters):
            if entry.recipe and entry.recipe not in made:
                inner = work / f"{number}-{entry.recipe.stem}"
                compose(context, entry.recipe, out=inner, force=force, allow_pickle=allow_pickle)
                made[entry.recipe] = inner
        return merge(
            context,
            file.sources(made),
            name=name,
            out=out,
            message=message,
            alias=alias,
            force=force,
            new_version=new_version,
            allow_pickle=allow_pickle,
            workers=workers,
            **file.choices,
        )
