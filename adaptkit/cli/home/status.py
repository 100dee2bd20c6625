"""`adaptkit status` (what `adaptkit` alone prints) and `adaptkit doctor`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from adaptkit.cli.output import times
from adaptkit.cli.output.table import cells, cut, one_line
from adaptkit.cli.shell.inert import LONGEST_CELL
from adaptkit.cli.shell.session import Session, json_option, pass_session, table_options
from adaptkit.io.sizes import count_text

if TYPE_CHECKING:
    from adaptkit.workspace.home.status import Status

_CHECKS = ("CHECK", "STATE", "DETAIL", "FIX")


@click.command()
@json_option
@pass_session
def status(session: Session) -> None:
    """Show what is in this workspace, and what to do next."""
    print_status(session)


def print_status(session: Session) -> None:
    """Print the workspace at a glance."""
    found = session.workspace.status()
    session.out.data(found.to_json(), lambda: described(found, session.out.width))


def described(found: Status, columns: int | None = None) -> list[str]:
    """The workspace at a glance, for people; the lines of versions are cut to the columns."""
    room = columns or sys.maxsize
    if not found.exists:
        lines = [f"no workspace yet; this command would use {found.home}"]
    else:
        lines = [
            f"workspace {found.home}",
            f"  {count_text(found.adapters, 'adapter')}, {count_text(found.versions, 'version')}"
            + (f", {found.unverified} with an unverified base" if found.unverified else ""),
            *([f"  remotes: {', '.join(found.remotes)}"] if found.remotes else []),
        ]
    if found.newest:
        lines += ["", "newest"]
        lines += [
            cut(
                f"  {v.ref}  {times.ago(v.created)}  {one_line(v.message, LONGEST_CELL)}".rstrip(),
                room,
            )
            for v in found.newest
        ]
    width = max(len(command) for command, _ in found.next_steps)
    lines += ["", "what to do next"]
    for command, why in (*found.next_steps, ("adaptkit --help", "see every command")):
        line = f"  {command.ljust(width)}  {why}"
        lines += [line] if cells(line) <= room else [f"  {command}", f"      {why}"]
    return lines


@click.command()
@table_options(*_CHECKS)
@json_option
@click.pass_context
@pass_session
def doctor(session: Session, context: click.Context) -> None:
    """Check the installation, the workspace and the plugins. The exit code is 1 when something is wrong."""
    checks = session.workspace.doctor()
    session.out.table(
        [asdict(check) for check in checks],
        _CHECKS,
        [(check.name, check.state, check.detail, check.fix) for check in checks],
        "nothing to check",
        drop=("DETAIL",),
    )
    if any(check.state == "wrong" for check in checks):
        context.exit(1)
