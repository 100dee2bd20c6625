"""The command that lets a found configuration count."""

from __future__ import annotations

import click

from adaptkit.cli.shell.session import Session, json_option, pass_session


@click.command()
@click.argument("folder", metavar="[DIR]", required=False)
@click.option("--revoke", is_flag=True, help="Trust it no more.")
@json_option
@pass_session
def trust(session: Session, folder: str | None, revoke: bool) -> None:
    """Let DIR/.adaptkit/config.toml set servers, database, author, policy and reviews, as it is now.

    Without that, a configuration that was found by walking upward, as in a cloned repository, may
    only hold adapters and remotes. A changed file has to be trusted again.
    """
    session.asks = False
    home, keys = session.workspace.trust(folder, revoke=revoke)
    sets = ", ".join(keys) or "nothing that needs trust"
    session.out.data(
        {"file": str(home.config_file), "sets": list(keys), "trusted": not revoke},
        [f"{home.config_file} is {'not trusted' if revoke else 'trusted'}: it sets {sets}"],
    )
