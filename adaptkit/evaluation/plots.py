"""The matrix, and what was forgotten, as pictures. Needs adaptkit[plot]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import requires_extra
from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.evaluation.matrix import Matrix


def draw(matrix: Matrix, out: Path) -> None:
    """Write the matrix of adapters and suites as a PNG: green is good; a perplexity is coloured against the best."""
    with requires_extra("plot", "cannot draw the matrix"):
        from matplotlib.figure import Figure
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


def draw_forgetting(forgotten: Mapping[str, Mapping[str, float]], out: Path) -> None:
    """Write what each adapter lost of each suite as bars; `forgotten` maps labels to suites to shares."""
    with requires_extra("plot", "cannot draw 'forgetting'"):
        from matplotlib.figure import Figure
    suites = list(dict.fromkeys(suite for row in forgotten.values() for suite in row))
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(forgotten)
    for number, (label, row) in enumerate(forgotten.items()):
        places = [x + (number - (len(forgotten) - 1) / 2) * width for x in range(len(suites))]
        bars = axes.bar(places, [row.get(s, 0.0) for s in suites], width, label=label)
        axes.bar_label(bars, [f"{row[s]:.0%}" if s in row else "" for s in suites], fontsize=8)
    axes.set_xticks(range(len(suites)), suites)
    axes.set_ylim(0, 1.08)
    axes.set_ylabel("forgotten: what was lost against the baseline")
    axes.legend(fontsize=8)
    with os_errors("write", out):
        figure.savefig(out, format="png", dpi=120)
