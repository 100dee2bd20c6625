"""`make demo-real`: the demo's story on SmolLM2-135M, a really pre-trained model, on the CPU.

Two skills that differ by what is asked (naval, medic) and two that differ by a prefix alone (NAVAL:, ALERT:, two forms of
answer) are trained, merged in every way, and scored by exact match on prompts that no training saw.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
warnings.simplefilter("ignore")

from real import data  # noqa: E402
from real.merges import RANK, merges  # noqa: E402
from real.smollm2 import smollm2  # noqa: E402

PAGE = Path(__file__).parent.parent / "docs" / "demo-real.md"
BEGIN, END = "<!-- table: make demo-real -->\n", "<!-- end of table -->"


def main() -> None:
    """Train, merge, score, print the table; with --write, into docs/demo-real.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40, help="of each training")
    parser.add_argument("--distil-steps", type=int, default=20)
    parser.add_argument("--write", action="store_true", help="write the table into the docs")
    given = parser.parse_args()
    start = time.perf_counter()
    print("SmolLM2-135M, its weights written out in single precision (kept in .cache)", flush=True)
    base = smollm2()
    with tempfile.TemporaryDirectory(prefix="adaptkit-demo-real-") as name:
        text = table(tell(base, Path(name), given.steps, given.distil_steps))
    print(f"\n{text}\n{time.perf_counter() - start:.0f} s in all.")
    if given.write:
        page = PAGE.read_text()
        before, after = page.partition(BEGIN)[0], page.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def tell(base: Path, work: Path, steps: int, distil_steps: int) -> list[dict[str, Any]]:
    """The figures of every adapter and merge; everything that is written stands below `work`."""
    from adaptkit import Workspace

    data.write(work)
    rows = []
    with Workspace.init(work / "home", notify=lambda _: None) as ws:
        for label, (one, other) in data.PAIRS.items():
            for skill in (one, other):
                train(ws, base, work, skill, steps)
            found = [(one, one), (other, other)]
            found += list(merges(ws, base, one, other, work, distil_steps))
            suites = [work / "suites" / f"{skill}.jsonl" for skill in (one, other)]
            print(f"  scoring the pair that differs {label}", flush=True)
            figures = ws.evaluate(
                ["base", *(name for _, name in found)], suites, base=str(base), record=False
            ).figures
            for what, name in [("base", "base"), *found]:
                row = figures[name if name == "base" else ws.version(name).ref]
                size = 0 if name == "base" else _size(ws.path(name))
                rows.append(
                    {"pair": label, "what": what, "figures": (row[one], row[other]), "bytes": size}
                )
    return rows


def train(ws: Any, base: Path, work: Path, skill: str, steps: int) -> None:
    """One adapter on q and v, with its moments measured at the end."""
    began = time.perf_counter()
    trained = ws.train(
        skill,
        base=base,
        data=work / f"{skill}.jsonl",
        target_modules="q_proj,v_proj",
        rank=RANK,
        steps=steps,
        batch=4,
        lr=2e-3,
        warmup=4,
        length=64,
    )
    print(
        f"  trained {skill}: loss {trained.facts['curve'][-1][1]:.3g}, "
        f"{trained.facts['parameters']:,} parameters, {time.perf_counter() - began:.0f} s",
        flush=True,
    )


def _size(folder: Path) -> int:
    return (folder / "adapter_model.safetensors").stat().st_size


def table(rows: list[dict[str, Any]]) -> str:
    """One table, in Markdown."""
    lines = ["| differs | adapter | exact match | size |", "|---|---|---|---|"]
    for row in rows:
        one, other = row["figures"]
        size = f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] else ""
        lines.append(f"| {row['pair']} | {row['what']} | {one:.2f} / {other:.2f} | {size} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
