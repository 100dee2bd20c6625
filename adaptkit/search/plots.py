"""The Pareto front as a picture. Needs adaptkit[plot]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import requires_extra
from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.search.found import Found


def draw(found: Found, out: Path) -> None:
    """Write a PNG: each trial by its size and its skills, a colour a strategy, the front as a line."""
    with requires_extra("plot", "cannot draw the front"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    whole = [one for one in found.trials if not one.error]
    for name in sorted({one.candidate.strategy for one in whole}):
        own = [one for one in whole if one.candidate.strategy == name]
        axes.scatter([t.size / 1000 for t in own], [t.skills for t in own], s=18, label=name)
    front = found.front
    axes.plot(
        [one.size / 1000 for one in front],
        [one.skills for one in front],
        color="black",
        linewidth=1,
        drawstyle="steps-post",
        label="front",
    )
    winner = found.winner
    axes.annotate(
        f"trial {winner.number}",
        (winner.size / 1000, winner.skills),
        textcoords="offset points",
        xytext=(6, -12),
    )
    axes.set_xlabel("size of the adapter (kB)")
    axes.set_ylabel("skills: mean over the suites")
    axes.set_title(f"{found.study}: {len(whole)} trials")
    axes.legend()
    with os_errors("write", out):
        figure.savefig(out, format="png", dpi=120)
