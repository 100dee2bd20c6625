"""`make bench`: what one module costs in every strategy, against its size and the adapters' rank, into docs/cost.md."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.extend import MergeStrategy

DOCS = Path(__file__).parent.parent / "docs"
SIDES = (256, 512, 1024, 2048, 4096)
RANKS = (4, 8, 16, 32, 64)
SIDE, RANK = 1024, 16
LARGEST_DENSE = 2048  # a dense merge of 4096×4096 takes seconds, and the line is straight by then


def main() -> None:
    """Time every strategy in its own space, draw, write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    from adaptkit.plugin.manager import Plugins

    strategies = [s for s in Plugins.from_environment().strategies() if ":" not in s.name]
    by_side = {s.name: [_cost(s, side, RANK) for side in SIDES] for s in strategies}
    by_rank = {s.name: [_cost(s, SIDE, rank) for rank in RANKS] for s in strategies}
    spaces = {s.name: s.spaces[0] for s in strategies}
    _draw(by_side, by_rank, spaces)
    (DOCS / "cost.md").write_text(_page(by_side, by_rank, spaces))
    print((DOCS / "cost.md").read_text())


def _cost(strategy: MergeStrategy[Any], side: int, rank: int) -> float | None:
    """Seconds for one module of two adapters on one core: combined, and cut to the adapters' rank. Best of three."""
    from adaptkit.algebra.lowrank import add, leading, svd
    from adaptkit.algebra.spaces import view
    from adaptkit.extend import LowRank

    space = strategy.spaces[0]
    if space == "dense" and side > LARGEST_DENSE:
        return None
    rng = np.random.default_rng(0)
    deltas = [
        LowRank(rng.standard_normal((side, rank)), rng.standard_normal((rank, side)))
        for _ in range(2)
    ]
    weights, params = [0.6, 0.4], strategy.params()

    def work() -> None:
        coefficients = strategy.coefficients(weights, params)
        if coefficients is not None:
            whole: Any = add(deltas, coefficients)
        else:
            seen = view(space, deltas, weights)
            rngs = [np.random.default_rng(1), np.random.default_rng(2)]
            whole = seen.rebuild(
                [strategy.merge(tensors, w, params, rngs) for tensors, w in seen.groups]
            )
        if isinstance(whole, LowRank):
            svd(whole).truncated(rank)
        else:
            leading(whole, rank, np.random.default_rng(0))

    with threadpool_limits(limits=1):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return min(times)


def _slope(xs: Sequence[int], ys: Sequence[float | None]) -> float:
    """The exponent by which cost grows over the upper half of a line."""
    points = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True) if y][-3:]
    return float(np.polyfit([x for x, _ in points], [y for _, y in points], 1)[0])


def _draw(
    by_side: dict[str, list[float | None]],
    by_rank: dict[str, list[float | None]],
    spaces: dict[str, str],
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    styles = {"core": "-", "knots": "-.", "dense": "--", "factors": ":"}
    panels = (
        (by_side, SIDES, f"rank {RANK}: against the module's side d"),
        (by_rank, RANKS, f"{SIDE}×{SIDE}: against the adapters' rank r"),
    )
    for axes, (lines, xs, title) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        for index, (name, ys) in enumerate(
            sorted(lines.items(), key=lambda item: -(item[1][2] or 0))
        ):
            known = [(x, y) for x, y in zip(xs, ys, strict=True) if y]
            axes.plot(
                [x for x, _ in known],
                [y for _, y in known],
                styles[spaces[name]],
                color=f"C{index % 10}",
                marker="os^vD"[index % 5],
                markersize=4,
                label=f"{name} ({spaces[name]})",
            )
        axes.set(xscale="log", yscale="log", title=title, xlabel="d" if xs is SIDES else "r")
        axes.set_xticks(xs, [str(x) for x in xs])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("seconds for one module, one core")
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8
    )
    (DOCS / "pictures").mkdir(exist_ok=True)
    figure.savefig(DOCS / "pictures" / "cost.png", dpi=90)


def _page(
    by_side: dict[str, list[float | None]],
    by_rank: dict[str, list[float | None]],
    spaces: dict[str, str],
) -> str:
    cheapest = min(ys[2] for ys in by_side.values() if ys[2])
    rows = [
        f"| `{name}` | {spaces[name]} | {(by_side[name][2] or 0) / cheapest:.1f}× | d^{_slope(SIDES, by_side[name]):.1f} "
        f"| r^{_slope(RANKS, by_rank[name]):.1f} |"
        for name in sorted(by_side, key=lambda n: by_side[n][2] or 0)
    ]
    return (
        "\n".join(
            [
                "# What a module costs",
                "",
                "Written by `make bench` (`benchmarks/cost.py`): two adapters on one d×d module, combined in the strategy's own space and cut",
                f"to their rank, on one core, the best of three. *Beside the cheapest* is at d = {SIDES[2]}, r = {RANK}; the exponents are fitted to",
                "the three largest sizes. In `core` and `knots` the cost grows with d, in `dense` with d².",
                "",
                "![cost against d and r](pictures/cost.png)",
                "",
                "| strategy | space | beside the cheapest | grows as | and as |",
                "|---|---|---|---|---|",
                *rows,
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
