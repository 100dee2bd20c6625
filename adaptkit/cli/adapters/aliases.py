"""Commands on aliases, the movable names of versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptkit.cli.adapters.adapters import NAME
from adaptkit.cli.shell.session import Session, complete_ref, json_option, pass_session
from adaptkit.errors import AdaptkitError, NotFound

if TYPE_CHECKING:
    from adaptkit.types import AliasMove


_YES = click.option("--yes", is_flag=True, help="Even when config.toml protects the alias.")


@click.command()
@NAME
@click.argument("alias_", metavar="ALIAS")
@click.argument("version", required=False)
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
    version: str | None,
    expect: int | None,
    drop: bool,
    yes: bool,
) -> None:
    """Point ALIAS of NAME at VERSION. NAME@VERSION ALIAS says the same.

    VERSION is a number, or another alias of NAME: what that points at now.
    """
    name, at, selected = name.partition("@")
    if at and version is not None:
        raise click.UsageError(f"the version is given twice: @{selected} and {version}")
    version = selected if at else version
    if version is None and "@" in alias_:
        of, _, wanted = alias_.partition("@")
        raise click.UsageError(f"NAME comes first: adaptkit alias {of} {name} {wanted}")
    if alias_.isdigit() and version is not None and not version.isdigit():
        raise click.UsageError(
            f"ALIAS comes before VERSION: adaptkit alias {name} {version} {alias_}"
        )
    if drop == (version is not None):
        raise click.UsageError(
            f"give the VERSION to point at, such as adaptkit alias {name} {alias_} 2, or --drop"
        )
    swap = -1 if expect is None else expect or None
    try:
        number = None if version is None else _number(session, name, version)
        move = session.workspace.alias(name, alias_, number, expect=swap, confirmed=yes)
    except NotFound as error:
        if is_adapter(session, alias_) and not is_adapter(session, name):
            raise click.UsageError(
                f"NAME comes first: adaptkit alias {alias_} {name} {version or '--drop'}"
            ) from error
        raise
    _tell(session, name, move)


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
    if not at and is_adapter(session, alias_) and not is_adapter(session, name):
        raise click.UsageError(f"NAME comes first: adaptkit rollback {alias_} {name}")
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


def is_adapter(session: Session, name: str) -> bool:
    """Whether an adapter of that name is here."""
    try:
        session.workspace.version(name)
    except AdaptkitError:
        return False
    return True


def _number(session: Session, name: str, version: str) -> int:
    """The number of a version: as it is written, behind the name once more, or of another alias."""
    of, at, _ = version.partition("@")
    if at and of != name:
        raise click.UsageError(f"{version} is no version of {name}: give its number, such as 2")
    if version.isdigit():
        return int(version)
    wanted = version if of == name else f"{name}@{version}"
    return session.workspace.version(wanted).number


def _tell(session: Session, name: str, move: AliasMove) -> None:
    data = {"name": name, "alias": move.alias, "old": move.old, "new": move.new, "when": move.when}
    moved = f"{move.old or 'nothing'} → {move.new or 'nothing'}"
    text = f"{move.new}, as before" if move.old == move.new else moved
    session.out.data(data, f"{name}@{move.alias}: {text}")
