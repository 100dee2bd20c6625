"""The command that scores adapters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from adaptkit.cli.executors import on_option
from adaptkit.cli.shell.pictures import Picture
from adaptkit.cli.shell.session import Session, complete_ref, json_option, pass_session

if TYPE_CHECKING:
    from pathlib import Path


@click.command("eval")
@click.argument("refs", metavar="REF…", nargs=-1, required=True, shell_complete=complete_ref)
@click.option(
    "--suite",
    "suites",
    multiple=True,
    required=True,
    metavar="FILE|DIR",
    help="What to ask: a data file, a suite in YAML, or a folder of them; may be repeated.",
)
@click.option("--base", required=True, metavar="DIR", help="The base model's folder.")
@click.option(
    "--baseline",
    metavar="REF",
    help="Measure what was forgotten against this version, or against base.",
)
@click.option(
    "--new",
    multiple=True,
    metavar="SUITE",
    help="A suite that was to be learned: it counts for no forgetting.",
)
@click.option(
    "--batch", type=click.IntRange(1), default=16, show_default=True, help="Prompts at once."
)
@click.option("--png", type=Picture(), metavar="FILE", help="Draw the matrix, too.")
@on_option
@click.option("--dry-run", is_flag=True, help="Keep no figure on the versions.")
@click.option("--force", is_flag=True, help="Even when the base is not known to be the adapter's.")
@json_option
@pass_session
def eval_(
    session: Session,
    refs: tuple[str, ...],
    suites: tuple[str, ...],
    base: str,
    baseline: str | None,
    new: tuple[str, ...],
    batch: int,
    png: Path | None,
    *,
    dry_run: bool,
    force: bool,
    on: str | None,
) -> None:
    """Score adapters REF (and `base`) on suites, and keep the figures on their versions.

    docs/evaluation.md has how answers are scored, and what forgetting is.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads cost 4x on busy cores
    matrix = session.workspace.evaluate(
        refs,
        suites,
        base=base,
        baseline=baseline,
        new=new,
        batch=batch,
        record=not dry_run,
        force=force,
        on=on,
    )
    if png is not None:
        from adaptkit.evaluation.plots import draw

        draw(matrix, png)
    if session.out.as_json:
        session.out.data(matrix.to_json(), "")
    else:
        head, rows = matrix.table()
        session.out.table(None, head, rows, "", titled=True)
