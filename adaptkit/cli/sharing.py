"""Commands that send adapters elsewhere and fetch them back."""

from __future__ import annotations

import click

from adaptkit.cli.adapters import REF
from adaptkit.cli.session import Session, json_option, pass_session


@click.command()
@REF
@click.argument("to", metavar="URL|REMOTE")
@click.option("--create", is_flag=True, help="Make the repository when it is not there (hf://).")
@click.option("--private", is_flag=True, help="Make it so that only its members may read it (hf://).")
@click.option("--create-pr", is_flag=True, help="Only propose it: a pull request, without a number (hf://).")
@click.option("--branch", metavar="NAME", default="", help="Another branch than main, made when missing (hf://).")
@json_option
@pass_session
def push(session: Session, ref: str, to: str, create: bool, private: bool, create_pr: bool, branch: str) -> None:
    """Publish REF at a URL or in a named remote."""
    from adaptkit.extend import PushOptions

    pushed = session.workspace.push(ref, to, options=PushOptions(create, private, create_pr, branch))
    receipt = pushed.receipt
    sent = "unchanged, nothing sent" if receipt.unchanged else f"{receipt.sent:,} bytes sent"
    there = (
        f"{receipt.place}@{receipt.number}" if receipt.number else f"{receipt.place}  {receipt.state}: {receipt.link}"
    )
    session.out.data(pushed.to_json(), f"{pushed.version.ref} → {there}  {sent}")


@click.command()
@click.argument("source", metavar="URL|REMOTE:NAME[@V]")
@click.option("--name", help="The name it gets here.  [default: the one it has there]")
@click.option("--alias", metavar="ALIAS", help="Point this alias at what was pulled.")
@click.option("--new-version", is_flag=True, help="Even when the name holds another method or base.")
@click.option("--allow-pickle", is_flag=True, help="Read weights from a pickle that adaptkit did not make.")
@json_option
@pass_session
def pull(
    session: Session, source: str, name: str | None, alias: str | None, new_version: bool, allow_pickle: bool
) -> None:
    """Fetch an adapter, verify every byte, and register it."""
    pulled = session.workspace.pull(source, name=name, alias=alias, new_version=new_version, allow_pickle=allow_pickle)
    told = "" if pulled.created else "  unchanged"
    session.out.data(pulled.to_json(), f"{pulled.version.ref}  {pulled.version.digest[:19]}…  verified{told}")


@click.group()
def remote() -> None:
    """Names for places where adapters are shared."""


@remote.command("add")
@click.argument("name")
@click.argument("url")
@pass_session
def add_remote(session: Session, name: str, url: str) -> None:
    """Call the root of places at URL by NAME."""
    session.workspace.set_remote(name, url)
    session.out.say(f"{name} is {url}: adaptkit push REF {name}")


@remote.command("list")
@json_option
@pass_session
def list_remotes(session: Session) -> None:
    """List the named remotes."""
    remotes = session.workspace.config.remotes
    session.out.table([{"name": n, "url": u} for n, u in sorted(remotes.items())], ("NAME", "URL"),
                      sorted(remotes.items()), "no remotes yet: adaptkit remote add NAME URL")  # fmt: skip


@remote.command("remove")
@click.argument("name")
@pass_session
def remove_remote(session: Session, name: str) -> None:
    """Forget a remote; what is there stays there."""
    session.workspace.set_remote(name, None)
    session.out.say(f"{name} is forgotten")
