"""Commands that find versions and show where they come from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.adapters.adapters import REF
from adaptkit.cli.adapters.bulk import base_shown
from adaptkit.cli.output import times
from adaptkit.cli.shell.session import (
    Session,
    complete_ref,
    json_option,
    pass_session,
    table_options,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.types import Event
    from adaptkit.workspace.results import Logged

_LIST = ("VERSION", "ALIASES", "METHOD", "RANK", "BASE", "CREATED", "TAGS", "METRICS", "MESSAGE")


@click.command("list")
@click.argument("words", nargs=-1, metavar="[WORD]...")
@click.option(
    "--base", metavar="BASE", help="Only those made for this base: a folder, a name or a level."
)
@click.option("--method", metavar="METHOD", help="Only those of this method, such as lora.")
@click.option(
    "--rank", metavar="R", help="Only those of this rank: 8, or a condition such as '>=8'."
)
@click.option("--tag", metavar="TAG", help="Only those with this tag.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="COND",
    help="Only where a figure is so: 'accuracy>=0.9'; may be repeated.",
)
@click.option("--team", metavar="TEAM", help="Only names in this namespace: TEAM/….")
@click.option(
    "--all", "every", is_flag=True, help="Every version, not only the latest of each name."
)
@table_options(*_LIST)
@json_option
@pass_session
def list_(
    session: Session,
    words: tuple[str, ...],
    base: str | None,
    method: str | None,
    rank: str | None,
    tag: str | None,
    metrics: tuple[str, ...],
    team: str | None,
    every: bool,
) -> None:
    """List the latest version of each adapter.

    With WORDs, those that have every word in their name, description, message or tags. A WORD such
    as team: lists what is in that remote, team:naval what of it has that word.
    """
    versions = session.workspace.list(
        base=base,
        method=method,
        every=every,
        rank=rank,
        tag=tag,
        metrics=metrics,
        words=words,
        team=team,
    )
    now = datetime.now(UTC)
    rows = [
        (
            v.ref,
            " ".join(v.aliases),
            v.method,
            str(v.rank or ""),
            base_shown(v),
            times.cell(v.created, now),
            " ".join(v.tags),
            " ".join(f"{key}={value:g}" for key, value in v.metrics.items()),
            v.message,
        )
        for v in versions
    ]
    if not rows and method is not None:
        session.plugins.method(method)  # names the nearest of one that there is not
    remotes = () if rows or not words else session.workspace.remotes()
    asked = words or base or method or rank or tag or metrics or team
    if remote := next((word.partition(":")[0] for word in words if ":" in word), ""):
        empty = f"nothing found in {remote}: adaptkit remote show {remote} lists what is there"
    elif meant := next((word for word in words if word in remotes), ""):
        empty = f"no adapter matches: adaptkit list {meant}: lists the remote of that name"
    elif asked:
        empty = "no adapter matches: adaptkit list shows all"
        if not rows and (tag or metrics):
            from adaptkit.workspace.adapters.list import unknown_marks

            empty = unknown_marks(session.workspace.list(every=True), tag, metrics) or empty
    else:
        empty = f"no adapters yet in {session.workspace.home.path}: adaptkit add PATH --name NAME"
    session.out.table(
        [v.to_json() for v in versions],
        _LIST,
        rows,
        empty,
        drop=("METHOD", "RANK", "TAGS", "METRICS", "CREATED", "MESSAGE", "BASE", "ALIASES"),
    )


@click.command()
@click.argument("name", required=False, shell_complete=complete_ref)
@click.option("--graph", is_flag=True, help="Draw what flowed into each version.")
@click.option(
    "--events",
    is_flag=True,
    help="Show everything that was done instead, by whom and when; NAME may be left out.",
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Only the newest N versions or events."
)
@json_option
@pass_session
def log(session: Session, name: str | None, graph: bool, events: bool, limit: int | None) -> None:
    """Show the versions of NAME, newest first, and the moves of its aliases.

    NAME may be in a place (REMOTE:NAME or a URL), of which nothing is fetched. NAME@V means its NAME.
    """
    if events and graph:
        raise click.UsageError("--graph draws versions, --events lists what was done: one of them")
    if events:
        found = session.workspace.events(name, limit=limit)
        now = datetime.now(UTC)
        session.out.table(
            [_as_json(event) for event in found],
            ("WHEN", "WHO", "DID", "WHAT", "DETAIL"),
            [
                (times.cell(e.when, now), e.actor or "-", e.verb, e.subject, _event_detail(e))
                for e in found
            ],
            "nothing was done yet",
            drop=("WHO",),
        )
        return
    if name is None:
        raise click.UsageError("give a NAME, or --events")
    if graph:
        from adaptkit.cli.adapters.lineage_graph import draw, rows

        drawn = session.workspace.lineages(name)
        session.out.data(drawn.to_json(), lambda: draw(rows(drawn.versions, drawn.lineages)))
        return
    logged = session.workspace.log(name)
    logged = replace(logged, versions=logged.versions[:limit])
    session.out.data(logged.to_json(), lambda: _logged(logged))


@click.command()
@REF
@click.option("--mermaid", is_flag=True, help="As a Mermaid flowchart, for a README.")
@json_option
@pass_session
def lineage(session: Session, ref: str, mermaid: bool) -> None:
    """Show everything REF was made from, across merges, back to training data where that is known."""
    from adaptkit.cli.adapters import lineage_graph

    found = session.workspace.lineage(ref)
    session.out.data(
        lineage_graph.as_json(found),
        lambda: lineage_graph.as_mermaid(found) if mermaid else lineage_graph.as_text(found),
    )


def _logged(logged: Logged) -> list[str]:
    lines = [
        f"{v.ref:<16} {times.local(v.created)}  {v.origin:<7} {v.digest[7:19]}  {' '.join('@' + a for a in v.aliases)} "
        f"{v.message}".rstrip()
        for v in logged.versions
    ]
    lines += [
        f"  @{m.alias}: {m.old or 'nothing'} → {m.new or 'nothing'}  {times.local(m.when)}  {m.author}"
        + ("  rolled back" if m.rollback else "")
        + ("  (undone)" if m.undone else "")
        for m in logged.moves
    ]
    lines += [f"  was called {name}" for name in logged.former_names]
    return lines


def _event_detail(event: Event) -> str:
    """What an event says beyond its verb and subject."""
    shown = {"digest": event.digest, "place": event.subject, "state": event.verb}
    rest = {k: value for k, value in event.detail.items() if k not in shown or shown[k] != value}
    number, sent = rest.pop("number", None), rest.pop("sent", None)
    parts = [
        f"by {event.author}" if event.author not in {"", event.actor} else "",
        f"version {number}" if number else "",
        f"{sent:,} bytes sent" if isinstance(sent, int) else "",
        _detail(rest),
    ]
    return ", ".join(filter(None, parts))


def _detail(detail: Mapping[str, Any]) -> str:
    """What an event records, in words: without braces, quotes and what is empty."""
    if set(detail) >= {"old", "new"}:
        moved = f"{detail['old'] or 'nothing'} → {detail['new'] or 'nothing'}"
        rest = {key: value for key, value in detail.items() if key not in {"old", "new"}}
        return ", ".join(filter(None, [moved, _detail(rest)]))
    parts = []
    for key, value in detail.items():
        if isinstance(value, dict):
            parts.append(", ".join(f"{name} = {_plain(one)}" for name, one in value.items()))
        elif value is True:
            parts.append(key.replace("_", " "))
        elif value not in (None, "", [], (), False):
            parts.append(f"{key.replace('_', ' ')} {_plain(value)}")
    return ", ".join(filter(None, parts))


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_plain(one) for one in value)
    if isinstance(value, dict):
        return _detail(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _as_json(event: Event) -> dict[str, object]:
    return {
        "verb": event.verb,
        "subject": event.subject,
        "digest": event.digest,
        "detail": dict(event.detail),
        "when": event.when,
        "actor": event.actor,
        "author": event.author,
    }
