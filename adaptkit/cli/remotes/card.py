"""The command that shows a model card before it is pushed."""

from __future__ import annotations

import click

from adaptkit.cli.adapters.adapters import REF
from adaptkit.cli.shell.session import Session, json_option, pass_session


@click.command()
@REF
@click.option(
    "--to",
    metavar="URL|REMOTE",
    help="As it would be there, around what people have written on the page.",
)
@json_option
@pass_session
def card(session: Session, ref: str, to: str | None) -> None:
    """Show the model card that a push of REF would write; nothing is sent."""
    text = session.workspace.card(ref, to)
    session.out.data({"card": text}, text.rstrip("\n"))
