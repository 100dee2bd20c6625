"""The matrix as a picture. Needs adaptkit[plot]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import MissingExtra
from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.evaluation.matrix import Matrix


def draw(matrix: Matrix, out: Path) -> None:
    """Write the matrix of adapters and suites as a PNG: green is good; a perplexity is coloured against the best."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("cannot draw the matrix", "plot") from error
    labels = list(matrix.figures)
    best = {
        suite.name: min(row[suite.name] for row in matrix.figures.values())
        for suite in matrix.suites
        if not suite.higher_is_better
    }
    shades = [
        [
            best[s.name] / matrix.figures[label][s.name]
            if s.name in best
            else matrix.figures[label][s.name]
            for s in matrix.suites
        ]
        for label in labels
    ]
    figure = Figure(
        figsize=(2 + 1.2 * len(matrix.suites), 1.5 + 0.5 * len(labels)), layout="constrained"
    )
    axes = figure.subplots()
    axes.imshow(shades, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
    axes.set_xticks(range(len(matrix.suites)), [f"{s.name}\n{s.score}" for s in matrix.suites])
    axes.set_yticks(range(len(labels)), labels)
    for y, label in enumerate(labels):
        for x, suite in enumerate(matrix.suites):
            ink = "black" if 0.25 < shades[y][x] < 0.75 else "white"
            figure_text = f"{matrix.figures[label][suite.name]:.3g}"
            axes.text(x, y, figure_text, ha="center", va="center", color=ink)
    with os_errors("write", out):
        figure.savefig(out, format="png", dpi=120)
