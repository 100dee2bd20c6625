"""Commands on what a project needs: `adaptkit.toml` and `adaptkit.lock`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adaptkit.cli.shell.session import Session, json_option, pass_session, table_options

if TYPE_CHECKING:
    from adaptkit.project.lockfile import Locked
    from adaptkit.workspace.project.project_results import LockChange

_OUTDATED = ("NAME", "LOCKED", "WANTED", "LATEST", "NOTE")
_LINEAGE = ("VERSION", "MADE OF", "NOW", "SET OF A SWEEP", "STEP")
PROJECT = click.option(
    "--project",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder with adaptkit.toml.  [default: here, or the nearest above]",
)


@click.command()
@click.option(
    "--update", multiple=True, metavar="NAME", help="Look NAME up again; may be repeated."
)
@click.option("--update-all", is_flag=True, help="Look every adapter up again.")
@click.option("--force", is_flag=True, help="Even when a version was rewritten in its place.")
@click.option("--dry-run", is_flag=True, help="Write nothing: show what would change.")
@PROJECT
@json_option
@pass_session
def lock(
    session: Session,
    update: tuple[str, ...],
    update_all: bool,
    force: bool,
    dry_run: bool,
    project: Path | None,
) -> None:
    """Pin the adapters that adaptkit.toml names in adaptkit.lock: digest, place and base.

    What is locked stays as it is, unless adaptkit.toml asks for something else or --update names
    it.
    """
    report = session.workspace.lock(
        project, update=update, update_all=update_all, force=force, dry_run=dry_run
    )
    session.out.data(report.to_json(), lambda: list(map(_changed, report.changes)) or "unchanged")
    if report.changes and not dry_run:
        session.out.say(f"{report.file.name} is written: adaptkit sync")


@click.command()
@click.option(
    "--frozen",
    is_flag=True,
    help="Refuse when adaptkit.toml and adaptkit.lock disagree; write no lock.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="How many at the same time.",
)
@PROJECT
@json_option
@pass_session
def sync(session: Session, frozen: bool, jobs: int, project: Path | None) -> None:
    """Bring here what adaptkit.lock pins, verify every byte, and register it.

    What adaptkit.toml asks for and the lock lacks is locked first; --frozen, for CI and images,
    refuses that.
    """
    ready = session.workspace.sync(project, frozen=frozen, jobs=jobs)
    rows = [
        (
            r.locked.name,
            r.version.ref,
            r.version.digest[:19],
            r.locked.where,
            "fetched" if r.fetched else "here",
        )
        for r in ready
    ]
    session.out.table(
        [r.to_json() for r in ready],
        ("NAME", "VERSION", "DIGEST", "FROM", "STATE"),
        rows,
        "adaptkit.toml names no adapters",
    )


@click.command()
@PROJECT
@click.option("--exit-code", is_flag=True, help="Exit with 1 when something has moved on.")
@click.option(
    "--lineage",
    is_flag=True,
    help="Instead: registered versions whose parents have moved on, and the line of a sweep for each.",
)
@table_options(*_OUTDATED, *_LINEAGE)
@json_option
@pass_session
def outdated(session: Session, project: Path | None, exit_code: bool, lineage: bool) -> None:
    """Show which locked adapters have moved on: what adaptkit.toml would take now, and the highest there is."""
    if lineage:
        _moved_parents(session, exit_code)
        return
    found = session.workspace.outdated(project)
    rows = [
        (one.name, *(_told(entry) for entry in (one.locked, one.wanted, one.latest)), one.note)
        for one in found
        if not one.current
    ]
    session.out.table(
        [one.to_json() for one in found],
        _OUTDATED,
        rows,
        "everything is up to date",
    )
    if any(one.note for one in found):
        session.out.warn("not everything could be looked up")
        click.get_current_context().exit(1)
    if exit_code and rows:
        click.get_current_context().exit(1)


def _moved_parents(session: Session, exit_code: bool) -> None:
    moved = session.workspace.moved_parents()
    session.out.table(
        [one.to_json() for one in moved],
        _LINEAGE,
        [
            (
                one.version.ref,
                parent.used,
                parent.now.ref,
                *(("", "") if index else (one.set, one.step)),
            )
            for one in moved
            for index, parent in enumerate(one.parents)
        ],
        "every version is made of what is in force",
    )
    if exit_code and moved:
        click.get_current_context().exit(1)


def _told(entry: Locked | None) -> str:
    return f"{entry.where} {entry.digest[7:15]}" if entry else "-"


def _changed(change: LockChange) -> str:
    if change.new is None:
        return f"{change.name}  dropped"
    before = f"  (was {_told(change.old)})" if change.old else ""
    return f"{change.name}  {change.new.where}  {change.new.digest[:19]}…{before}"
