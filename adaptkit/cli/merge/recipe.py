"""`adaptkit recipe`: recipes of other tools, as files that `adaptkit compose` runs."""

from __future__ import annotations

from pathlib import Path

import click

from adaptkit.cli.shell.session import Session, json_option, pass_session


@click.group()
def recipe() -> None:
    """Translate recipes of other tools."""


@recipe.command("from-mergekit")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@json_option
@pass_session
def from_mergekit(session: Session, file: Path) -> None:
    """Print a mergekit YAML as a recipe for `adaptkit compose`; what cannot be carried over is named."""
    from adaptkit.merge import mergekit

    found = mergekit.read(file, session.plugins.strategies())
    for text in found.remarks:
        session.out.warn(text)
    session.out.data(found.recipe, lambda: mergekit.as_yaml(found).rstrip())
