"""The command that carries out a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adaptkit.cli.executors import on_option
from adaptkit.cli.output.table import Cell
from adaptkit.cli.shell.pictures import Picture
from adaptkit.cli.shell.session import Session, json_option, pass_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adaptkit.workspace.sweeps.walk import Swept


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@on_option
@click.option("--dry-run", is_flag=True, help="Only show what is done already and what would be.")
@click.option(
    "--png",
    type=Picture(),
    metavar="FILE",
    help="Draw adapters by suites and gates, too.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 when a gate held something back.")
@json_option
@pass_session
def sweep(
    session: Session, file: Path, on: str | None, dry_run: bool, png: Path | None, exit_code: bool
) -> None:
    """Evaluate, merge, distil, gate, promote and push sets of adapters, as the YAML FILE says.

    What is done already is not done again, after a kill too. docs/scale-out.md shows such a file.
    """
    swept = session.workspace.sweep(file, on=on, dry_run=dry_run, png=png)
    session.out.table(
        swept.to_json(),
        ("STEP", "DO", "WHAT", "STATUS", "RESULT"),
        [
            (str(t.step), t.kind, t.what, t.status, Cell(t.result[:60], t.result))
            for t in swept.tasks
        ],
        "no set holds an adapter",
    )
    if not session.out.as_json:
        session.out.say(list(_summary(swept)))
    if exit_code and swept.count("held"):
        click.get_current_context().exit(1)


def _summary(swept: Swept) -> Iterator[str]:
    counts = ", ".join(
        f"{count} {'wait' if status == 'waits' and count > 1 else status}"
        for status in ("done", "made", "to do", "waits", "held")
        if (count := swept.count(status))
    )
    yield f"{swept.name}: {counts or 'nothing'}"
    rows: dict[str, Mapping[str, float]] = {one.ref: one.metrics for one in swept.versions}
    for ref, scored in swept.board.figures.items():  # what a gate held back, too
        rows.setdefault(ref, scored)
    for ref, row in rows.items():
        figures = "  ".join(f"{name} {value:.4g}" for name, value in sorted(row.items()))
        if figures:
            yield f"  {ref}  {figures}"
