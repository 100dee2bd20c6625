"""The command that draws: adapters side by side, and what explains a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adaptkit.cli.shell.session import Session, complete_ref, json_option, pass_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from adaptkit.training.parameters import ParameterCount

OF_ADAPTERS = ("similarity", "spectrum", "conflict", "training", "forgetting")


@click.command()
@click.argument("kind", type=click.Choice([*OF_ADAPTERS, "parameters"]), metavar="KIND")
@click.argument("sources", nargs=-1, metavar="[REF[=W]]...", shell_complete=complete_ref)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The PNG to write.",
)
@click.option("--base", metavar="DIR", help="Of parameters: the base whose modules are counted.")
@click.option(
    "--size",
    type=click.IntRange(1),
    help="Of parameters without a base: one square matrix of this size.  [default: 4096]",
)
@click.option(
    "--rank", "ranks", multiple=True, type=int, help="Of parameters: ranks.  [default: 1 to 64]"
)
@json_option
@pass_session
def plot(
    session: Session,
    kind: str,
    sources: tuple[str, ...],
    out: Path,
    base: str | None,
    size: int | None,
    ranks: tuple[int, ...],
) -> None:
    """Draw adapters side by side, or what explains a training.

    similarity, spectrum and conflict compare the updates of adapters; training shows how the loss fell; forgetting,
    what eval --baseline measured; parameters, what full fine-tuning and LoRA train.
    """
    if kind in OF_ADAPTERS and not sources:
        raise click.UsageError("Missing argument 'REF[=W]...'.")
    if kind not in OF_ADAPTERS and sources:
        raise click.UsageError(f"plot {kind} takes no adapters: --base DIR, or --size N.")
    if kind != "parameters" and (base or size or ranks):
        raise click.UsageError(f"--base, --size and --rank are of parameters, not of {kind}")
    if base and size:
        raise click.UsageError("--size is of one matrix, --base of a whole model: one of them")
    result: dict[str, Any] = {"out": str(out)}
    lines: list[str] = []
    ws = session.workspace
    if kind == "parameters":
        from adaptkit.training.parameters import RANKS
        from adaptkit.training.plots import draw_parameters

        counts = ws.parameters(base, size=size or 4096, ranks=ranks or RANKS)
        draw_parameters(counts, out)
        result["parameters"] = [one.to_json() for one in counts]
        lines = list(_counted(counts))
    elif kind == "training":
        from adaptkit.training.plots import draw_training

        curves = ws.loss_curves(sources)
        draw_training(curves, out)
        result["curves"] = {label: [list(p) for p in points] for label, points in curves.items()}
    elif kind == "forgetting":
        from adaptkit.evaluation.plots import draw_forgetting

        lost = ws.forgotten(sources)
        draw_forgetting(lost, out)
        result["forgetting"] = {label: dict(row) for label, row in lost.items()}
    else:
        from adaptkit.merge.comparing.plots import draw

        found = ws.diff(sources)
        draw(kind, found.adapters, found.pairs, out)
    session.out.data(result, [*lines, str(out)])


def _counted(counts: Sequence[ParameterCount]) -> Iterator[str]:
    """The figures of the picture, for people."""
    for one in counts:
        yield f"{one.targets}: full fine-tuning {one.full:,} parameters"
        for rank, count in one.lora.items():
            yield f"  LoRA of rank {rank}: {count:,}, {one.ratio(rank):,.1f} times fewer"
