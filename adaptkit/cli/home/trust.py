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
    only hold adapters and remotes, and a .adaptkit that is or holds a symbolic link, such as a store
    on a larger disk, is not used at all. A changed file or link has to be trusted again.
    """
    session.asks = False
    found = session.workspace.trust(folder, revoke=revoke)
    file, verdict = found.home.config_file, "not trusted" if revoke else "trusted"
    links = {str(path): target for path, target in found.links.items()}
    lines = [f"{path} is {verdict}: it leads to {target}" for path, target in links.items()]
    if file.is_file():
        sets = ", ".join(found.sets) or "nothing that needs trust"
        lines.append(f"{file} is {verdict}: it sets {sets}")
    session.out.data(
        {"file": str(file), "sets": list(found.sets), "links": links, "trusted": not revoke}, lines
    )
