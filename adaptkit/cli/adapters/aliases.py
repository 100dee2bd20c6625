"""Commands on aliases, the movable names of versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptkit.cli.adapters.adapters import NAME
from adaptkit.cli.shell.session import Session, complete_ref, json_option, pass_session

if TYPE_CHECKING:
    from adaptkit.types import AliasMove


_YES = click.option("--yes", is_flag=True, help="Even when config.toml protects the alias.")


@click.command()
@NAME
@click.argument("alias_", metavar="ALIAS")
@click.argument("version", type=int, required=False)
@click.option(
    "--expect",
    type=int,
    metavar="N",
    help="Only if the alias points at version N now (0: nowhere).",
)
@click.option("--drop", is_flag=True, help="Take the alias away instead.")
@_YES
@json_option
@pass_session
def alias(
    session: Session,
    name: str,
    alias_: str,
    version: int | None,
    expect: int | None,
    drop: bool,
    yes: bool,
) -> None:
    """Point ALIAS of NAME at VERSION. NAME@VERSION ALIAS says the same."""
    name, selected = _split(name)
    if selected is not None and version is not None:
        raise click.UsageError(f"the version is given twice: @{selected} and {version}")
    version = selected if version is None else version
    if version is None and "@" in alias_:
        of, _, wanted = alias_.partition("@")
        raise click.UsageError(f"NAME comes first: adaptkit alias {of} {name} {wanted}")
    if drop == (version is not None):
        raise click.UsageError(
            f"give the VERSION to point at, such as adaptkit alias {name} {alias_} 2, or --drop"
        )
    swap = -1 if expect is None else expect or None
    _tell(session, name, session.workspace.alias(name, alias_, version, expect=swap, confirmed=yes))


@click.command()
@NAME
@click.argument("alias_", metavar="ALIAS", required=False)
@click.option("--to", type=int, metavar="N", help="Go back to this earlier target at once.")
@_YES
@json_option
@pass_session
def rollback(session: Session, name: str, alias_: str | None, to: int | None, yes: bool) -> None:
    """Point ALIAS of NAME at where it pointed before; again, and it goes one step further back.

    NAME@ALIAS says the same as NAME ALIAS.
    """
    name, at, inside = name.partition("@")
    if bool(at) == (alias_ is not None):
        raise click.UsageError("give NAME ALIAS, or NAME@ALIAS")
    alias_ = alias_ or inside
    _tell(session, name, session.workspace.rollback(name, alias_, to, confirmed=yes))


@click.command()
@click.argument("old", metavar="NAME", shell_complete=complete_ref)
@click.argument("new", metavar="NEW")
@json_option
@pass_session
def rename(session: Session, old: str, new: str) -> None:
    """Call the adapter NAME, with all its versions, NEW; the old name leads to it from now on."""
    session.workspace.rename(old, new)
    session.out.data({"old": old, "new": new}, f"{old} is called {new} now; {old} leads there too")


def _split(name: str) -> tuple[str, int | None]:
    """`naval@3` → `naval` and 3; a version may be written either way."""
    head, at, tail = name.partition("@")
    if not at:
        return name, None
    if not tail.isdigit():
        raise click.UsageError(f"'{name}' names no version: give NAME@VERSION ALIAS")
    return head, int(tail)


def _tell(session: Session, name: str, move: AliasMove) -> None:
    data = {"name": name, "alias": move.alias, "old": move.old, "new": move.new, "when": move.when}
    session.out.data(
        data, f"{name}@{move.alias}: {move.old or 'nothing'} → {move.new or 'nothing'}"
    )
