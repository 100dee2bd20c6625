"""`adaptkit demo`: something to try adaptkit with."""

from __future__ import annotations

from pathlib import Path

import click

from adaptkit.cli.shell.session import Session, json_option, pass_session


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
@pass_session
def demo(session: Session, folder: Path) -> None:
    """Write a tiny base model and two trained adapters into a new folder DIR, and show what to type."""
    made = session.workspace.write_demo(folder)
    add = [
        f"adaptkit add {folder / name} --name {name} --base {folder / made.base.name}"
        for name, _ in made.adapters
    ]
    session.out.data(
        made.to_json(),
        [
            f"{folder} holds a base model and two adapters; go on with",
            "",
            "adaptkit init",
            *add,
            "adaptkit merge naval=0.8 medic=0.8 --name bridge",
        ],
    )
