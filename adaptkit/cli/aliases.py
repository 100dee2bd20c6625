"""Commands on aliases, the movable names of versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptkit.cli.adapters import NAME
from adaptkit.cli.session import Session, json_option, pass_session

if TYPE_CHECKING:
    from adaptkit.types import AliasMove


@click.command()
@NAME
@click.argument("alias_", metavar="ALIAS")
@click.argument("version", type=int)
@click.option("--expect", type=int, metavar="N", help="Only if the alias points at version N now (0: nowhere).")
@json_option
@pass_session
def alias(session: Session, name: str, alias_: str, version: int, expect: int | None) -> None:
    """Point ALIAS of NAME at VERSION."""
    swap = -1 if expect is None else expect or None
    _tell(session, name, session.workspace.alias(name, alias_, version, expect=swap))


@click.command()
@NAME
@click.argument("alias_", metavar="ALIAS")
@json_option
@pass_session
def rollback(session: Session, name: str, alias_: str) -> None:
    """Point ALIAS of NAME at where it pointed before its last move."""
    _tell(session, name, session.workspace.rollback(name, alias_))


def _tell(session: Session, name: str, move: AliasMove) -> None:
    data = {"name": name, "alias": move.alias, "old": move.old, "new": move.new, "when": move.when}
    session.out.data(data, f"{name}@{move.alias}: {move.old or 'nothing'} → {move.new}")
