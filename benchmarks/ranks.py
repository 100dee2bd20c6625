"""Which rank does an adapter need? The demo's naval task trained at rank 1 to 32: accuracy, what stays polite, size.

    python benchmarks/ranks.py [--ranks 1 2 4 8 16 32] [--steps 400]       writes docs/ranks.md and its picture

Trained by `adaptkit train`, scored by exact match on held-out prompts, as the demo does.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))
warnings.simplefilter("ignore")

PAGE, PICTURE = ROOT / "docs" / "ranks.md", ROOT / "docs" / "pictures" / "ranks.png"
TARGETS = {"all linear": "all-linear", "q and v": "q_proj,v_proj"}
SUITES = ("naval", "medic", "polite")
HEAD = """# Which rank?

The demo's naval task (terse ship reports, polite everywhere else, with replay), LoRA on all linear layers and on q and v
alone. Exact match on 90 held-out prompts: naval is what was to be learned, polite what was to be kept. Size is that of the
weights file; the base has about 400,000 parameters.
"""
TAIL = """
Start at 8 on all linear layers, look at held-out rows, and halve the rank while nothing is lost: size and the cost of
serving are proportional to it. A merge of several adapters has to hold what all of them learned
([merging](merging.md)).
"""


def main() -> None:
    """Train each rank, score it, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--print", action="store_true", help="write no page")
    given = parser.parse_args()
    found = measure(given.ranks, given.steps)
    text = table(found)
    print(text)
    if not given.print:
        draw(found)
        command = f"`python benchmarks/ranks.py`, {given.steps} steps of 32 rows each."
        picture = "![accuracy and size by rank](pictures/ranks.png)"
        PAGE.write_text(f"{HEAD}\n{command}\n\n{text}\n{picture}\n{TAIL}")


def measure(ranks: list[int], steps: int) -> list[dict[str, Any]]:
    """Figures by target set and rank."""
    from adaptkit import Workspace
    from fleet import files
    from fleet.cache import bases

    base, found = bases().base, []
    with (
        tempfile.TemporaryDirectory(prefix="adaptkit-ranks-") as name,
        Workspace.init(name, notify=lambda _: None) as ws,
    ):
        data = files.write(Path(name) / "data")
        for label, targets in TARGETS.items():
            for rank in ranks:
                ref = f"naval-{label.replace(' ', '-')}-{rank}"
                trained = ws.train(
                    ref,
                    base=base,
                    data=data / "naval.jsonl",
                    replay=data / "before-naval.jsonl",
                    replay_ratio=files.RATIO,
                    rank=rank,
                    target_modules=targets,
                    steps=steps,
                    batch=32,
                    lr=5e-3,
                    warmup=20,
                    seed=0,
                    calibrate=False,
                )
                figures = ws.evaluate(
                    [ref], [data / "suites"], base=str(base), batch=90, record=False
                ).figures[trained.version.ref]
                size = (ws.path(ref) / "adapter_model.safetensors").stat().st_size
                row = {"targets": label, "rank": rank, "bytes": size} | dict(figures)
                found.append(row | {"parameters": trained.facts["parameters"]})
    return found


def table(found: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| modules | rank | parameters | size | naval | polite in cargo |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['targets']} | {row['rank']} | {row['parameters']:,} | {row['bytes'] / 1000:,.0f} kB "
        f"| {row['naval']:.2f} | {row['polite']:.2f} |"
        for row in found
    ]
    return "\n".join(lines) + "\n"


def draw(found: list[dict[str, Any]]) -> None:
    """Accuracy and size by rank, one above the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for colour, label in enumerate(TARGETS):
        rows = [row for row in found if row["targets"] == label]
        ranks = [row["rank"] for row in rows]
        above.plot(ranks, [r["naval"] for r in rows], f"C{colour}o-", label=f"naval, {label}")
        above.plot(ranks, [r["polite"] for r in rows], f"C{colour}s:", label=f"polite, {label}")
        below.plot(ranks, [r["bytes"] / 1000 for r in rows], f"C{colour}o-", label=label)
    above.set_ylabel("exact match")
    above.set_ylim(-0.05, 1.05)
    below.set_ylabel("size (kB)")
    below.set_xscale("log", base=2)
    below.set_yscale("log")
    below.set_xlabel("rank")
    below.set_xticks(ranks, [str(rank) for rank in ranks])
    for axes in (above, below):
        axes.legend(fontsize=8)
    figure.savefig(PICTURE, dpi=120)


if __name__ == "__main__":
    main()
