"""The command that makes a full model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.adapters.adapters import REF
from adaptkit.cli.executors import on_option
from adaptkit.cli.shell.session import Session, json_option, pass_session
from adaptkit.io.sizes import count_text

if TYPE_CHECKING:
    from adaptkit.workspace.results import Baked, PlannedBake


@click.command()
@REF
@click.option("--base", required=True, metavar="DIR", help="The base model's folder.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The new model's folder.",
)
@click.option(
    "--dtype", help="Store as float32, bfloat16, float16 or float64.  [default: as the base]"
)
@click.option(
    "--check",
    metavar="PROMPT",
    help="Compare the answer to this prompt with the live adapter's: logits, or outputs of a pipeline's components.",
)
@click.option(
    "--clean",
    is_flag=True,
    help="Drop what an interrupted bake of something else left in DIR.partial.",
)
@click.option(
    "--sync/--no-sync",
    default=True,
    show_default=True,
    help="Wait until all is on disk. Without, it is faster, and after a power cut or an interruption all is baked again.",
)
@click.option("--allow-pickle", is_flag=True, help="Read a .bin pickle when REF is a folder.")
@click.option("--force", is_flag=True, help="Even when the base is not known to be the adapter's.")
@on_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Write nothing: show what would be written, and whether an executor pays.",
)
@json_option
@pass_session
def bake(
    session: Session,
    ref: str,
    base: str,
    out: Path,
    dtype: str | None,
    check: str | None,
    on: str | None,
    *,
    clean: bool,
    sync: bool,
    allow_pickle: bool,
    force: bool,
    dry_run: bool,
) -> None:
    """Write the base with REF in its weights as a full model.

    Interrupted, the same command goes on where it stopped.
    """
    if dry_run:
        planned = session.workspace.bake_plan(
            ref, base, out, dtype=dtype, allow_pickle=allow_pickle, on=on
        )
        session.out.data(planned.to_json(), lambda: _planned_lines(planned), fit=True)
        return
    baked = session.workspace.bake(
        ref,
        base,
        out,
        dtype=dtype,
        check=check,
        clean=clean,
        sync=sync,
        on=on,
        allow_pickle=allow_pickle,
        force=force,
    )
    session.out.data(baked.to_json(), lambda: baked_lines(baked), fit=True)


def _planned_lines(planned: PlannedBake) -> list[str]:
    """What a bake would write, for people."""
    return [
        f"{count_text(planned.changed, 'tensor')} would change, {_size(planned.nbytes, planned.files)}",
        f"baking takes {planned.takes.text}",
    ]


def baked_lines(baked: Baked) -> list[str]:
    """A bake, for people."""
    report = baked.report
    lines = [
        f"{report.out}",
        f"  {count_text(len(report.changed), 'tensor')} changed, {_size(report.nbytes, report.files)}",
    ]
    if report.resumed:
        lines.append(f"  finished by an earlier run: {count_text(report.resumed, 'file')}")
    if report.rounding is not None and report.rounding > 1e-4:
        lines.append(f"  rounding to the stored dtype lost {report.rounding:.2g} of the update")
    if report.unchecked:
        lines.append(f"  not opened as its class would: {report.unchecked}")
    if baked.apart is not None:
        lines.append(
            f"  logits within {baked.apart:.2g} of the live adapter's, relative to the largest"
        )
    for name, apart in baked.components_apart.items():
        lines.append(
            f"  output of {name} within {apart:.2g} of the live adapter's, relative to the largest"
        )
    return lines


def _size(nbytes: int, files: tuple[str, ...]) -> str:
    return f"{count_text(nbytes, 'byte')} in {count_text(len(files), 'file')}"


@click.command()
@click.argument("tuned", metavar="DIR")
@click.option("--base", required=True, metavar="DIR", help="The model it was tuned from.")
@click.option(
    "--rank",
    required=True,
    metavar="N|auto",
    help="The rank of every module; auto keeps 99 % of each one's change.",
)
@click.option(
    "--keep-full",
    is_flag=True,
    help="Save norms, biases and what else cannot be low rank as whole modules.",
)
@click.option("--name", help="Register the result as the next version of this name.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the result into a new folder.",
)
@click.option("-m", "--message", default="", help="What this version is.")
@json_option
@pass_session
def extract(session: Session, tuned: str, rank: str, **how: Any) -> None:
    """Take what a full fine-tune changed in its base out as LoRA, and say what the rank leaves out."""
    if rank != "auto" and not rank.lstrip("-").isdigit():
        raise click.BadParameter(
            f"'{rank}' is neither a whole number nor auto", param_hint="--rank"
        )
    made = session.workspace.extract(tuned, rank=None if rank == "auto" else int(rank), **how)
    where = made.version.ref if made.version else str(made.out)
    session.out.data(
        made.to_json(),
        f"{where}  {made.digest[:19]}…\n  {count_text(len(made.report.ranks), 'module')}, rank {made.report.rank}, "
        f"loss {made.report.error.total or 0:.2g} of their change"
        + (f"; saved whole: {', '.join(made.report.saved)}" if made.report.saved else ""),
    )
