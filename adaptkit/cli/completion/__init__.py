"""Shell completion: the script that a shell loads, and what is offered when Tab is pressed."""

from __future__ import annotations

import click

from adaptkit.cli.shell.session import Session, json_option, pass_session


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
@pass_session
def completion(session: Session, shell: str) -> None:
    """Print the script that completes commands, names, aliases and options in SHELL."""
    from adaptkit.cli.completion.shells import script

    text = script(shell)
    session.out.data({"shell": shell, "script": text}, text)
