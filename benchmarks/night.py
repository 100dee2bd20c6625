"""A night of a platform team: 400 adapters on 12 bases are evaluated, gated, merged, evaluated again and promoted.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/night.py [--adapters N] [--bases N]

writes docs/night.md. Bases and adapters are the demo's with noise, so every one has content of its own; a suite is eight
prompts. A sweep is compared with the same evaluations and merges called one after the other from Python, in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

from adaptkit import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

REPORT = Path(__file__).parent.parent / "docs" / "night.md"
SWEEP = """\
name: {base}
base: {base}
sets:
  skills: {{base: {base}, name: "{base}-*"}}
steps:
  - evaluate: {{of: skills, suites: [suite.jsonl]}}
  - gate: {{of: skills, require: ["suite.exact >= 0"]}}
  - merge: {{of: skills, name: {base}, strategy: linear}}
  - evaluate: {{of: {base}, suites: [suite.jsonl]}}
  - alias: {{of: {base}, to: staging}}
"""


def noisy(source: Path, target: Path, seed: int) -> None:
    """A copy of a folder whose weights differ a little."""
    shutil.copytree(source, target)
    (weights,) = target.glob("*.safetensors")
    rng = np.random.default_rng(seed)
    tensors = {
        key: (value * (1 + 0.01 * rng.standard_normal(value.shape))).astype(value.dtype)
        for key, value in load_file(weights).items()
    }
    save_file(tensors, weights, metadata={"format": "pt"})


def fleet(folder: Path, ws: Workspace, adapters: int, bases: int) -> dict[str, list[str]]:
    """The adapters of each base, registered, beside a sweep for each base and the suite of all."""
    ws.write_demo(folder / "demo")
    rows = [{"prompt": f"status {n}", "completion": f" {n}"} for n in range(8)]
    (folder / "suite.jsonl").write_text("\n".join(map(json.dumps, rows)))
    names: dict[str, list[str]] = {f"base{n:02}": [] for n in range(bases)}
    for number, base in enumerate(names):
        noisy(folder / "demo" / "ship", folder / base, number)
        (folder / f"{base}.yaml").write_text(SWEEP.format(base=base))
    for number in range(adapters):
        base = f"base{number % bases:02}"
        name = f"{base}-{number:03}"
        noisy(folder / "demo" / "naval", folder / "adapters" / name, 1000 + number)
        ws.add(folder / "adapters" / name, name, base=folder / base)
        names[base].append(name)
    return names


def by_hand(ws: Workspace, names: dict[str, list[str]]) -> None:
    """The same work without a sweep."""
    for base, adapters in names.items():
        ws.evaluate(adapters, ["suite.jsonl"], base=base)
        ws.merge(adapters, name=f"{base}.hand", strategy="linear")
        ws.evaluate([f"{base}.hand"], ["suite.jsonl"], base=base)
        ws.alias(f"{base}.hand", "staging", 1)


def swept(ws: Workspace, names: dict[str, list[str]]) -> None:
    for base in names:
        ws.sweep(f"{base}.yaml")


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adapters", type=int, default=400)
    parser.add_argument("--bases", type=int, default=12)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        with Workspace.init(Path(folder), notify=lambda _: None) as ws:
            names = fleet(Path(folder), ws, asked.adapters, asked.bases)
            ws.evaluate(names["base00"][:1], ["suite.jsonl"], base="base00")  # imports
            hand = seconds(lambda: by_hand(ws, names))
            first = seconds(lambda: swept(ws, names))
            second = seconds(lambda: swept(ws, names))
            moved = names["base00"][0]
            noisy(Path(folder, "demo", "naval"), Path(folder, "moved"), 1)
            ws.add("moved", moved, base="base00")
            third = seconds(lambda: swept(ws, names))
    lines = [
        f"# A night of {asked.adapters} adapters on {asked.bases} bases",
        "",
        "Written by `benchmarks/night.py`: one run, one thread, the small models of the demo. A night evaluates every adapter,",
        "gates and merges those of each base, evaluates the merge and gives it an alias ([sweeps](scale-out.md)).",
        "",
        "| night | against the same calls from Python |",
        "|---|---|",
        f"| the first: everything is done | {first / hand:.2f}× |",
        f"| nothing moved: nothing is done | {second / hand:.3f}× |",
        f"| one adapter of {asked.adapters} has a new version | {third / hand:.3f}× |",
        "",
    ]
    print("\n".join(lines))
    print(f"{hand:.1f} s by hand, {first:.1f} s, {second:.1f} s, {third:.1f} s")
    if (asked.adapters, asked.bases) == (400, 12):
        REPORT.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
