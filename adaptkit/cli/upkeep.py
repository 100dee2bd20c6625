"""Commands that check and mend."""

from __future__ import annotations

import click

from adaptkit.cli.session import Session, complete_ref, json_option, pass_session


@click.command()
@click.argument("ref", required=False, shell_complete=complete_ref)
@json_option
@pass_session
def verify(session: Session, ref: str | None) -> None:
    """Hash the files of REF again, or those of everything."""
    found = session.workspace.verify(ref)
    for sentence in found.damaged:
        session.out.warn(sentence)
    session.out.data(found.to_json(), f"{len(found.sound)} sound, {len(found.damaged)} damaged")
    if found.damaged:
        raise click.exceptions.Exit(1)


@click.group()
def registry() -> None:
    """The registry as a whole."""


@registry.command("rebuild")
@click.option("--from", "source", required=True, metavar="URL|REMOTE", help="The place or remote to read.")
@json_option
@pass_session
def rebuild(session: Session, source: str) -> None:
    """Register every version that a place or remote holds."""
    added = session.workspace.rebuild(source)
    fresh = sum(one.created for one in added)
    session.out.data([one.to_json() for one in added], f"{len(added)} versions there, {fresh} new here")
