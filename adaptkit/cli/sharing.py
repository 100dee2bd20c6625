"""Commands that send adapters elsewhere and fetch them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptkit.cli.adapters import REF
from adaptkit.cli.session import Session, json_option, pass_session

if TYPE_CHECKING:
    from adaptkit.results import Pushed


@click.command()
@REF
@click.argument("to", metavar="URL|REMOTE...", nargs=-1, required=True)
@click.option("--create", is_flag=True, help="Make the repository when it is not there (hf://).")
@click.option("--private", is_flag=True, help="Make it so that only its members may read it (hf://).")
@click.option("--create-pr", is_flag=True, help="Only propose it: a pull request, without a number (hf://).")
@click.option("--branch", metavar="NAME", default="", help="Another branch than main, made when missing (hf://).")
@json_option
@pass_session
def push(session: Session, ref: str, to: tuple[str, ...], create: bool, private: bool, create_pr: bool,
         branch: str) -> None:  # fmt: skip
    """Publish REF at a URL or in a named remote, or in several. NAME@ALIAS carries the alias along."""
    from adaptkit.extend import PushOptions

    options = PushOptions(create, private, create_pr, branch)
    if len(to) == 1:
        pushed = session.workspace.push(ref, to[0], options=options)
        session.out.data(pushed.to_json(), _receipt(pushed))
        return
    done = session.workspace.push_to_all(ref, to, options=options)
    session.out.data([one.to_json() for one in done], "\n".join(map(_receipt, done)))


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


def _receipt(pushed: Pushed) -> str:
    receipt = pushed.receipt
    sent = "unchanged, nothing sent" if receipt.unchanged else f"{receipt.sent:,} bytes sent"
    there = (
        f"{receipt.place}@{receipt.number}" if receipt.number else f"{receipt.place}  {receipt.state}: {receipt.link}"
    )
    return f"{pushed.version.ref} → {there}  {sent}"
