"""The commands that show plugins; they work with every plugin broken."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from adaptkit.cli.session import Session, json_option, pass_session

if TYPE_CHECKING:
    from adaptkit.manager import PluginRecord


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def plugins(context: click.Context) -> None:
    """List the plugins that are installed, and what each registered."""
    if context.invoked_subcommand is None:
        _show(context.ensure_object(Session))


@plugins.command()
@json_option
@pass_session
def doctor(session: Session) -> None:
    """Say what is wrong with the plugins, and what to type next."""
    records = _show(session)
    broken = [
        record for record in records if record.status == "failed" or (record.reason and record.status == "loaded")
    ]
    for record in broken:
        session.out.warn(f"{record.plugin}: {record.reason}")
        if record.distribution:
            session.out.say(f"  pip install -U {record.distribution}, or ADAPTKIT_DISABLE_PLUGINS={record.plugin}")
    if broken:
        raise click.exceptions.Exit(1)
    session.out.say("every plugin is well")


def _show(session: Session) -> tuple[PluginRecord, ...]:
    session.plugins.add_commands(click.Group())
    records = session.plugins.records()
    rows = [(r.plugin, r.distribution, r.version, r.status, _registered(r)) for r in records]
    session.out.table([asdict(r) for r in records], ("PLUGIN", "DISTRIBUTION", "VERSION", "STATUS", "REGISTERED, OR WHY NOT"),
                      rows, "no plugins")  # fmt: skip
    return records


def _registered(record: PluginRecord) -> str:
    parts = [f"{kind}: {', '.join(names)}" for kind, names in record.registered.items()]
    return "; ".join([*parts, *([record.reason] if record.reason else [])])
