"""What is shown of many adapters at once, and the line of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from adaptkit.cli.shell.session import Session
    from adaptkit.types import Version
    from adaptkit.workspace.results import Added, AddedAll, RemovedAll


def base_shown(version: Version) -> str:
    """A base as a list shows it: its name and how well it is known."""
    return f"{version.base.name or '?'} ({version.base.status})"


def added_line(added: Added) -> str:
    """One version that was added."""
    version = added.version
    line = f"{version.ref}  {version.digest[:19]}…  {version.method} rank {version.rank or '-'}  base {base_shown(version)}"
    if not added.created:
        return f"{line}  unchanged"
    return f"{line}  the bytes of {added.same_as}" if added.same_as else line


def report_added(session: Session, found: AddedAll) -> None:
    """A line for each, and a summary; the exit code is 1 when one failed."""
    if found.added or session.out.as_json:
        session.out.data(found.to_json(), lambda: list(map(added_line, found.added)))
    for text in found.failures:
        session.out.warn([text])
    counts = {
        "added": sum(one.created for one in found.added),
        "unchanged": sum(not one.created for one in found.added),
        "with the bytes of another": sum(bool(one.same_as) for one in found.added),
        "unverified": sum(one.version.base.status == "unverified" for one in found.added),
        "failed": len(found.failures),
        "files left out": len(found.left_out),
    }
    session.out.say(
        ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "added")
    )
    if found.failures:
        raise click.exceptions.Exit(1)


def report_removed(session: Session, found: RemovedAll) -> None:
    """What is in the trash now, and what could not be moved there; the exit code is 1 then."""
    if session.out.as_json:
        session.out.data(found.to_json(), "")
    for text in found.failures:
        session.out.warn([text])
    session.out.say(f"{len(found.removed)} in the trash: adaptkit restore lists it")
    if found.failures:
        raise click.exceptions.Exit(1)
