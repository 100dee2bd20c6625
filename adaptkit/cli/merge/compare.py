"""The command that compares adapters before they are merged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from adaptkit.cli.output.table import Table
from adaptkit.cli.shell.session import Session, complete_ref, json_option, pass_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.merge.comparing.comparison import Comparison

ROUNDING = 1e-12
"""A loss that is only what float64 rounds."""
_UNBOUNDED = 10_000


@click.command()
@click.argument(
    "sources", nargs=-1, required=True, metavar="REF[=W]...", shell_complete=complete_ref
)
@click.option("--allow-pickle", is_flag=True, help="Read .bin pickles among the folders given.")
@json_option
@pass_session
def diff(session: Session, sources: tuple[str, ...], allow_pickle: bool) -> None:
    """Show how adapters differ, what a rank of their sum would lose, and which strategy to try."""
    found = session.workspace.diff(sources, allow_pickle=allow_pickle)
    session.out.data(found.to_json(), lambda: compared(found, session.out.width), fit=True)


def compared(found: Comparison, width: int | None = None) -> list[str]:
    """The comparison, for people; its tables fit `width` columns of a terminal."""
    lines = _columns(
        ("adapter", "norm", "rank", "90 % of its energy in rank"),
        [(a.label, f"{a.norm:.4g}", str(a.rank), str(a.rank_for_90)) for a in found.adapters],
        width,
    )
    rows = []
    for pair in found.pairs:
        ends = sorted(pair.cosines, key=lambda key: pair.cosines[key])
        shown = (
            (f"{ends[-1]} {pair.cosines[ends[-1]]:.2f}", f"{ends[0]} {pair.cosines[ends[0]]:.2f}")
            if ends
            else ("", "")
        )
        rows.append(
            (
                f"{pair.one}, {pair.other}",
                f"{pair.cosine:.3f}",
                f"{pair.same_sign:.0%}",
                f"{pair.row_overlap:.2f} ({pair.row_overlap_by_chance:.2f})",
                f"{pair.column_overlap:.2f} ({pair.column_overlap_by_chance:.2f})",
                str(pair.shared_modules),
                *shown,
            )
        )
    if rows:
        lines += [
            "",
            *_columns(
                (
                    "pair",
                    "cosine",
                    "same sign",
                    "row overlap (chance)",
                    "column overlap (chance)",
                    "shared modules",
                    "most alike",
                    "most opposed",
                ),
                rows,
                width,
                drop=("most opposed", "most alike", "shared modules"),
            ),
        ]
    losses = [
        (str(rank), f"{loss:.2g}" if loss > ROUNDING else "0")
        for rank, loss in found.truncation.items()
    ]
    lines += ["", *_columns(("rank of the sum", "loss"), losses, width)]
    lines += ["", *(f"warning: {text}" for text in found.warnings)]
    advice = [found.suggestion, f"  {found.reason}"]
    first = not found.suggestion.startswith("try ")  # not to merge at all
    return [*advice, "", *lines] if first else [*lines, *advice]


def _columns(
    head: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    width: int | None,
    drop: Sequence[str] = (),
) -> list[str]:
    return Table(head, tuple(rows), tuple(drop)).fitted(width or _UNBOUNDED).split("\n")
