"""The commands that show plugins; they work with every plugin broken."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.shell.session import Session, json_option, pass_session, table_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.plugin.record import PluginRecord

HEAD = ("PLUGIN", "DISTRIBUTION", "VERSION", "STATUS", "REGISTERED OR WHY NOT")

_DROP = ("DISTRIBUTION", "VERSION")


@click.group(invoke_without_command=True)
@table_options(*HEAD)
@json_option
@click.pass_context
def plugins(context: click.Context) -> None:
    """List the plugins that are installed, and what each registered."""
    if context.invoked_subcommand is None:
        session = context.ensure_object(Session)
        records = _records(context, session)
        session.out.table(
            [as_json(record) for record in records], HEAD, rows(records), "no plugins", drop=_DROP
        )


@plugins.command()
@table_options(*HEAD)
@json_option
@click.pass_context
@pass_session
def doctor(session: Session, context: click.Context) -> None:
    """Try every plugin, show what is wrong, and what to type next. The exit code is 1 when something is."""
    wrong = session.plugins.tried()
    records = [_with(record, wrong.get(record.plugin, ())) for record in _records(context, session)]
    value = [as_json(record) | {"fix": fix(record)} for record in records]
    session.out.table(value, HEAD, rows(records), "no plugins", drop=_DROP)
    broken = [record for record in records if is_broken(record)]
    for record in broken:
        session.out.warn([f"{record.plugin}: {record.reason}", f"  {fix(record)}"])
    for name in session.plugins.unmatched:
        session.out.warn(f"ADAPTKIT_DISABLE_PLUGINS names '{name}', and no plugin is called that")
    if broken:
        context.exit(1)
    session.out.say("every plugin is well")


def _with(record: PluginRecord, wrong: Sequence[str]) -> PluginRecord:
    return replace(record, reason="; ".join(filter(None, [record.reason, *wrong])))


@plugins.command("trust")
@click.argument("distributions", metavar="[DISTRIBUTION]...", nargs=-1)
@json_option
@pass_session
def trust_plugins(session: Session, distributions: tuple[str, ...]) -> None:
    """Pin what distributions (all, when none is named) register now; a later change is announced."""
    from adaptkit.errors import NotFound
    from adaptkit.plugin.manager import Plugins
    from adaptkit.plugin.pins import pin, pins_file

    now = Plugins.from_environment().pins()
    for name in distributions:
        if name not in now:
            raise NotFound("distribution with plugins", name, now)
    pinned = {name: now[name] for name in distributions or now}
    pin(pinned, pins_file())
    rows = [(name, one["version"], _points(one)) for name, one in sorted(pinned.items())]
    session.out.table(
        pinned, ("DISTRIBUTION", "VERSION", "PLUGINS"), rows, "every plugin is adaptkit's own"
    )


def _points(pin: Mapping[str, str]) -> str:
    return ", ".join(key.removeprefix("plugin ") for key in sorted(pin) if key != "version")


def _records(context: click.Context, session: Session) -> Sequence[PluginRecord]:
    root = context.find_root().command
    if isinstance(root, click.Group):
        root.list_commands(context)  # where clashes with adaptkit's own commands come to light
    return session.plugins.records()


def as_json(record: PluginRecord) -> dict[str, Any]:
    """One plugin, as `--json` shows it."""
    return asdict(record) | {
        "registered": {kind: list(names) for kind, names in record.registered.items()}
    }


def rows(records: Sequence[PluginRecord]) -> list[tuple[str, ...]]:
    """The plugins, as the table shows them."""
    return [(r.plugin, r.distribution, r.version, r.status, _registered(r)) for r in records]


def is_broken(record: PluginRecord) -> bool:
    """Whether something is wrong; a plugin that was switched off is not broken."""
    return record.status == "failed" or (record.status == "loaded" and bool(record.reason))


def fix(record: PluginRecord) -> str:
    """What to type next; empty when nothing is wrong."""
    if not is_broken(record):
        return ""
    off = f"ADAPTKIT_DISABLE_PLUGINS={record.plugin} goes on without it"
    return f"pip install -U {record.distribution}, or {off}" if record.distribution else off


def _registered(record: PluginRecord) -> str:
    parts = [f"{kind}: {', '.join(names)}" for kind, names in record.registered.items()]
    return "; ".join([*parts, *([record.reason] if record.reason else [])])
