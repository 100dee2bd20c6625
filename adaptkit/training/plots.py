"""Pictures of training: how few parameters LoRA trains, and how the loss fell. Needs adaptkit[plot]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.errors import requires_extra
from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from adaptkit.training.parameters import ParameterCount


def draw_parameters(counts: Sequence[ParameterCount], out: Path) -> None:
    """A PNG: parameters by rank on a log scale, LoRA solid, full fine-tuning dashed, a colour a set of modules."""
    figure, axes = _axes("parameters")
    for number, one in enumerate(counts):
        ranks, colour = list(one.lora), f"C{number}"
        axes.plot(
            ranks, list(one.lora.values()), marker="o", color=colour, label=f"LoRA, {one.targets}"
        )
        axes.axhline(
            one.full, color=colour, linestyle="--", label=f"full, {one.targets}: {one.full:,}"
        )
        shown = 8 if 8 in one.lora else ranks[-1]
        axes.annotate(
            f"{one.lora[shown]:,}: 1/{one.ratio(shown):,.0f}",
            (shown, one.lora[shown]),
            textcoords="offset points",
            xytext=(6, -12),
            fontsize=8,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(list(counts[0].lora), [str(rank) for rank in counts[0].lora])
    axes.set_xlabel("rank")
    axes.set_ylabel("parameters that are trained")
    axes.set_title("Full fine-tuning and LoRA")
    _write(figure, axes, out)


def draw_training(curves: Mapping[str, Sequence[tuple[int, float]]], out: Path) -> None:
    """A PNG of the loss by step, a line an adapter."""
    figure, axes = _axes("training")
    for label, points in curves.items():
        axes.plot([step for step, _ in points], [loss for _, loss in points], label=label)
    if all(loss > 0 for points in curves.values() for _, loss in points):
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title("Training")
    _write(figure, axes, out)


def _axes(kind: str) -> tuple[Any, Any]:
    with requires_extra("plot", f"cannot draw '{kind}'"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 5), layout="constrained")
    return figure, figure.subplots()


def _write(figure: Any, axes: Any, out: Path) -> None:
    axes.legend(fontsize=8)
    with os_errors("write", out):
        figure.savefig(out, format="png", dpi=120)
