"""Pictures of a comparison. Needs the extra [plot]."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from adaptkit.errors import NotFound, Refused, requires_extra
from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from adaptkit.merge.comparing.measures import Pair, Spectrum

KINDS = ("similarity", "spectrum", "conflict")


def draw(kind: str, adapters: Sequence[Spectrum], pairs: Sequence[Pair], out: Path) -> None:
    """Write the picture called `kind` (similarity, spectrum or conflict) as a PNG."""
    content = png(kind, adapters, pairs)
    with os_errors("write", out):
        out.write_bytes(content)


def png(kind: str, adapters: Sequence[Spectrum], pairs: Sequence[Pair]) -> bytes:
    """The picture called `kind`, as a PNG in memory."""
    if kind not in KINDS:
        raise NotFound("plot", kind, KINDS)
    if kind != "spectrum" and not pairs:
        raise Refused(
            f"cannot draw '{kind}' of one adapter",
            why="it shows pairs",
            fix="give two adapters or more",
        )
    with requires_extra("plot", f"cannot draw '{kind}'"):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    if kind == "spectrum":
        _spectrum(axes, adapters)
    elif kind == "conflict":
        _conflict(axes, pairs)
    else:
        _similarity(axes, adapters, pairs)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()


def _similarity(axes: Any, adapters: Sequence[Spectrum], pairs: Sequence[Pair]) -> None:
    """Cosines of all pairs as a table of colours."""
    labels = [adapter.label for adapter in adapters]
    place = {label: index for index, label in enumerate(labels)}
    table = [[1.0] * len(labels) for _ in labels]
    for pair in pairs:
        table[place[pair.one]][place[pair.other]] = table[place[pair.other]][place[pair.one]] = (
            pair.cosine
        )
    image = axes.imshow(table, vmin=-1, vmax=1, cmap="RdBu_r")
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    for row, values in enumerate(table):
        for column, value in enumerate(values):
            axes.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                color="white" if abs(value) > 0.6 else "black",
            )
    axes.figure.colorbar(image, label="cosine of the updates")
    axes.set_title("How alike the updates are")


def _spectrum(axes: Any, adapters: Sequence[Spectrum]) -> None:
    """The singular values of every module, the mean drawn through them."""
    for index, adapter in enumerate(adapters):
        colour = f"C{index}"
        longest = max(map(len, adapter.values.values()))
        for values in adapter.values.values():
            axes.plot(range(1, len(values) + 1), values, color=colour, alpha=0.15, linewidth=0.8)
        columns = [[v[i] for v in adapter.values.values() if i < len(v)] for i in range(longest)]
        axes.plot(
            range(1, longest + 1),
            [sum(c) / len(c) for c in columns],
            color=colour,
            label=adapter.label,
            marker=".",
        )
    axes.set_yscale("log")
    every = [
        value for adapter in adapters for values in adapter.values.values() for value in values
    ]
    shown = [value for value in every if value > 1e-4 * max(every)]
    axes.set_ylim(bottom=min(shown, default=1e-6) / 2)
    axes.set_xlabel("rank")
    axes.set_ylabel("singular value (each module thin, their mean thick)")
    axes.legend()
    axes.set_title("Where the updates have their energy")


def _conflict(axes: Any, pairs: Sequence[Pair]) -> None:
    """The share of opposite signs, module by module."""
    for pair in pairs:
        keys = list(pair.same_signs)
        axes.plot(
            range(len(keys)),
            [1 - pair.same_signs[key] for key in keys],
            marker="o",
            linestyle="none",
            label=f"{pair.one} and {pair.other}",
        )
        axes.set_xticks(
            range(len(keys)),
            [key.removeprefix("model.layers.") for key in keys],
            rotation=90,
            fontsize=6,
        )
    axes.axhline(0.5, color="grey", linewidth=0.8, linestyle=":", label="unrelated")
    axes.set_ylabel("share of entries with opposite signs")
    axes.legend()
    axes.set_title("Where the updates conflict")
