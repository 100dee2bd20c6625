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
@json_option
@pass_session
def push(session: Session, ref: str, to: tuple[str, ...]) -> None:
    """Publish REF at a URL or in a named remote, or in several. NAME@ALIAS carries the alias along."""
    if len(to) == 1:
        pushed = session.workspace.push(ref, to[0])
        session.out.data(pushed.to_json(), _receipt(pushed))
        return
    done = session.workspace.push_to_all(ref, to)
    session.out.data([one.to_json() for one in done], "\n".join(map(_receipt, done)))


@click.command()
@click.argument("source", metavar="URL|REMOTE:NAME[@V]")
@click.option("--name", help="The name it gets here.  [default: the one it has there]")
@click.option("--alias", metavar="ALIAS", help="Point this alias at what was pulled.")
@click.option("--new-version", is_flag=True, help="Even when the name holds another method or base.")
@json_option
@pass_session
def pull(session: Session, source: str, name: str | None, alias: str | None, new_version: bool) -> None:
    """Fetch an adapter, verify every byte, and register it."""
    pulled = session.workspace.pull(source, name=name, alias=alias, new_version=new_version)
    told = "" if pulled.created else "  unchanged"
    session.out.data(pulled.to_json(), f"{pulled.version.ref}  {pulled.version.digest[:19]}…  verified{told}")


def _receipt(pushed: Pushed) -> str:
    receipt = pushed.receipt
    sent = "unchanged, nothing sent" if receipt.unchanged else f"{receipt.sent:,} bytes sent"
    return f"{pushed.version.ref} → {receipt.place}@{receipt.number}  {sent}"
