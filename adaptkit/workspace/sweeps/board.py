"""What a sweep found, side by side: adapters by suites, and what the gates made of them; and its picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadSweep, NotFound, requires_extra
from adaptkit.io.files import os_errors
from adaptkit.workspace.sweeps.file import Evaluate, Gate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from adaptkit.evaluation.suites import Suite
    from adaptkit.types import Version
    from adaptkit.workspace.sweeps.file import SweepFile

_DPI = 120
_TALLEST = 400.0  # inches; a PNG of matplotlib has less than 2^16 pixels a side
_NOT_MEASURED, _WAITS = (0.93, 0.93, 0.93), (0.85, 0.85, 0.85)
_PASSED, _HELD = (0.10, 0.59, 0.31), (0.84, 0.19, 0.15)


@dataclass(slots=True)
class Board:
    """Figures by adapter and suite, and verdicts by adapter and gate, in the order they came."""

    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    """By reference and `suite.score`."""
    rising: dict[str, bool] = field(default_factory=dict)
    """By `suite.score`: whether more is better."""
    gates: dict[int, str] = field(default_factory=dict)
    """By step: what is demanded."""
    verdicts: dict[str, dict[int, str]] = field(default_factory=dict)
    """By reference and step: passed, held or waits."""

    def score(self, version: Version, suites: Iterable[Suite]) -> None:
        """Take in the figures of a version on suites, as far as they were measured."""
        for suite in suites:
            name = f"{suite.name}.{suite.score}"
            self.rising[name] = suite.higher_is_better
            if name in version.metrics:
                self.figures.setdefault(version.ref, {})[name] = version.metrics[name]

    def judge(self, version: Version, step: int, gate: Gate, verdict: str) -> None:
        """Take in what a gate said of a version."""
        self.gates[step] = "\n".join(gate.require)
        self.verdicts.setdefault(version.ref, {})[step] = verdict

    @property
    def adapters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.figures, *self.verdicts]))

    def goodness(self, adapter: str, name: str) -> float | None:
        """Between 0 and 1: a share as it is, a perplexity against the best; None where it was not measured."""
        figure = self.figures.get(adapter, {}).get(name)
        if figure is None or self.rising[name]:
            return None if figure is None else min(1.0, max(0.0, figure))
        best = min(row[name] for row in self.figures.values() if name in row)
        return best / figure if figure else 1.0


def check_picture(file: SweepFile, out: Path) -> None:
    """Refuse a picture that could not be drawn, before the sweep's work is done."""
    with requires_extra("plot", "cannot draw the sweep"):
        import matplotlib.figure  # noqa: F401  (only whether it is there)
    if not any(isinstance(action, Evaluate | Gate) for action in file.actions):
        raise BadSweep(
            f"the sweep {file.name} has nothing to draw",
            why="it has neither an evaluate nor a gate step",
            fix="leave out --png",
        )
    if not out.absolute().parent.is_dir():
        raise NotFound("folder", str(out.parent), (), fix=f"mkdir -p {out.parent}")


def draw(board: Board, name: str, out: Path) -> None:
    """Write the board as a PNG of 120 dots an inch."""
    with os_errors("write", out):
        picture(board, name).savefig(out, format="png", dpi=_DPI)


def picture(board: Board, name: str) -> Any:
    """The board as a figure of matplotlib: a line an adapter, a column a suite, then a column a gate."""
    with requires_extra("plot", "cannot draw the sweep"):
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    adapters, suites, gates = board.adapters, list(board.rising), list(board.gates)
    columns = len(suites) + len(gates)
    height = min(1.8 + 0.45 * len(adapters), _TALLEST)
    figure = Figure(figsize=(3 + 1.5 * columns, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(name)
    if not adapters:
        axes.axis("off")
        axes.text(0.5, 0.5, "no adapter was scored", ha="center", va="center")
        return figure
    shades = colormaps["RdYlGn"]
    colours: list[list[tuple[float, ...]]] = []
    for y, adapter in enumerate(adapters):
        line: list[tuple[float, ...]] = []
        for x, suite in enumerate(suites):
            good = board.goodness(adapter, suite)
            line.append(_NOT_MEASURED if good is None else shades(good)[:3])
            if good is not None:
                ink = "black" if 0.25 < good < 0.75 else "white"
                text = f"{board.figures[adapter][suite]:.3g}"
                axes.text(x, y, text, ha="center", va="center", color=ink)
        for x, step in enumerate(gates, len(suites)):
            verdict = board.verdicts.get(adapter, {}).get(step, "")
            line.append({"passed": _PASSED, "held": _HELD, "waits": _WAITS, "": (1, 1, 1)}[verdict])
            ink = "black" if verdict == "waits" else "white"
            axes.text(x, y, verdict, ha="center", va="center", color=ink)
        colours.append(line)
    axes.imshow(colours, aspect="auto")
    heads = [suite.replace(".", "\n") for suite in suites]
    heads += [f"gate, step {step}\n{board.gates[step]}" for step in gates]
    axes.set_xticks(range(columns), heads, fontsize=7)
    axes.set_yticks(range(len(adapters)), adapters)
    return figure
