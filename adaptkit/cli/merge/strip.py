"""The command that takes parts out of an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adaptkit.cli.adapters.adapters import REF
from adaptkit.cli.shell.session import Session, json_option, pass_session


@click.command()
@REF
@click.option("--heads", is_flag=True, help="Without what it brings whole, other than embeddings.")
@click.option("--embeddings", is_flag=True, help="Without updates and copies of the embedding.")
@click.option(
    "--modules",
    multiple=True,
    metavar="GLOB",
    help="Without the modules of these names; may be given several times.",
)
@click.option("--base", metavar="DIR", help="The base's folder: its class says what is what.")
@click.option("--name", help="Register the result as the next version of this name.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the result into a new folder.",
)
@click.option("-m", "--message", default="", help="What this version is.")
@json_option
@pass_session
def strip(session: Session, ref: str, **how: Any) -> None:
    """Take heads, embeddings or modules out of REF, for engines that load none of these."""
    made = session.workspace.strip(ref, **how)
    where = made.version.ref if made.version else str(made.out)
    shown = ", ".join(made.left_out[:3]) + (" …" if len(made.left_out) > 3 else "")
    session.out.data(
        made.to_json(),
        f"{where}  {made.digest[:19]}…\n  {len(made.left_out)} tensors left out: {shown}",
    )
