"""Commands that look at adapters side by side, and those that make another form of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.adapters import REF
from adaptkit.cli.merging import describe
from adaptkit.cli.session import Session, complete_ref, json_option, pass_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from adaptkit.analysis import Comparison


def _result(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that make one adapter of another."""
    for option in reversed((
        click.option("--name", help="Register the result as the next version of this name."),
        click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Write the result into a new folder."),
        click.option("--base", metavar="DIR", help="The base's folder, for methods whose update needs its weights."),
        click.option("--dtype", help="Store as float32, bfloat16, float16 or float64.  [default: that of the adapter]"),
        click.option("-m", "--message", default="", help="What this version is."),
        click.option("--new-version", is_flag=True, help="Even when the name holds another method or base."),
        click.option("--allow-pickle", is_flag=True, help="Read a .bin pickle when REF is a folder."),
        click.option("--force", is_flag=True, help="Even when the bases differ; recorded."),
    )):  # fmt: skip
        command = option(command)
    return command


@click.command()
@REF
@click.option("--rank", type=int, help="Cut every module to this rank, optimally.")
@click.option("--energy", type=float, metavar="E", help="Give each module the smallest rank that keeps this share.")
@click.option("--keep", default="fro", show_default=True, help="What --energy is a share of: fro, cumulative or ratio.")
@_result
@json_option
@pass_session
def resize(session: Session, ref: str, **how: Any) -> None:
    """Cut REF to a smaller rank, with the least possible loss, and say what it is."""
    made = session.workspace.resize(ref, **how)
    session.out.data(made.to_json(), lambda: describe(made))


@click.command()
@REF
@click.option("--rank", type=int, help="The rank of the result; needed where the update is not low rank.")
@click.option("--energy", type=float, metavar="E", help="Give each module the smallest rank that keeps this share.")
@_result
@json_option
@pass_session
def convert(session: Session, ref: str, **how: Any) -> None:
    """Write REF, an adapter of any additive method, as LoRA."""
    made = session.workspace.convert(ref, **how)
    session.out.data(made.to_json(), lambda: describe(made))


@click.command()
@click.argument("tuned", metavar="DIR")
@click.option("--base", required=True, metavar="DIR", help="The model it was tuned from.")
@click.option("--rank", type=int, required=True, help="The rank of every module.")
@click.option("--name", help="Register the result as the next version of this name.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Write the result into a new folder.")
@click.option("-m", "--message", default="", help="What this version is.")
@json_option
@pass_session
def extract(session: Session, tuned: str, **how: Any) -> None:
    """Take what a full fine-tune changed in its base out as LoRA, and say what the rank leaves out."""
    made = session.workspace.extract(tuned, **how)
    where = made.version.ref if made.version else str(made.out)
    session.out.data(made.to_json(), f"{where}  {made.digest[:19]}…\n  {len(made.report.ranks)} modules, rank {made.report.rank}, "
                                     f"loss {made.report.error.total or 0:.2g}")  # fmt: skip


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="REF[=W]...", shell_complete=complete_ref)
@click.option("--allow-pickle", is_flag=True, help="Read .bin pickles among the folders given.")
@json_option
@pass_session
def diff(session: Session, sources: tuple[str, ...], allow_pickle: bool) -> None:
    """Show how adapters differ, what a rank of their sum would lose, and which strategy to try."""
    found = session.workspace.diff(sources, allow_pickle=allow_pickle)
    session.out.data(found.to_json(), lambda: compared(found))


def compared(found: Comparison) -> str:
    """The comparison, for people."""
    lines = _columns(("adapter", "norm", "rank", "90 % of its energy in rank"),
                     [(a.label, f"{a.norm:.4g}", str(a.rank), str(a.rank_for_90)) for a in found.adapters])  # fmt: skip
    rows = []
    for pair in found.pairs:
        ends = sorted(pair.cosines, key=lambda key: pair.cosines[key])
        shown = (
            (f"{ends[-1]} {pair.cosines[ends[-1]]:.2f}", f"{ends[0]} {pair.cosines[ends[0]]:.2f}") if ends else ("", "")
        )
        rows.append(
            (
                f"{pair.one}, {pair.other}",
                f"{pair.cosine:.3f}",
                f"{pair.same_sign:.0%}",
                str(pair.shared_modules),
                *shown,
            )
        )
    if rows:
        lines += ["", *_columns(("pair", "cosine", "same sign", "shared modules", "most alike", "most opposed"), rows)]
    losses = [(str(rank), f"{loss:.2g}") for rank, loss in found.truncation.items()]
    lines += ["", *_columns(("rank of the sum", "loss"), losses)]
    return "\n".join([*lines, "", f"try {found.advice}", f"  {found.reason}"])


def _columns(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]


@click.command()
@click.argument("kind", type=click.Choice(["similarity", "spectrum", "conflict"]))
@click.argument("sources", nargs=-1, required=True, metavar="REF[=W]...", shell_complete=complete_ref)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The PNG to write.")
@json_option
@pass_session
def plot(session: Session, kind: str, sources: tuple[str, ...], out: Path) -> None:
    """Draw adapters side by side: how alike they are, their singular values, where their signs conflict."""
    from adaptkit.plots import draw

    draw(kind, session.workspace.diff(sources), out)
    session.out.data({"out": str(out)}, str(out))
