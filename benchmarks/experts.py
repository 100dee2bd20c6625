"""Adapters of many small modules: `diff` and `merge` of 4,608 experts, against reading and writing the same files.

    .venv/bin/python benchmarks/experts.py [--layers 36]

writes docs/experts.md. One LoRA of rank 8 on one linear of 128 experts in each of 36 layers, twice. The peer is what neither can do without: every
tensor of both adapters read as float64 and multiplied once with its partner.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from itertools import count
from pathlib import Path
from shutil import rmtree

import numpy as np
from safetensors.numpy import load_file, save_file
from timing import Row, within

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.merge import recipe
from adaptkit.merge import run as merge
from adaptkit.merge.comparing import compare
from adaptkit.plugin.manager import Plugins
from adaptkit.types import Parent

REPORT = Path(__file__).parent.parent / "docs" / "experts.md"
EXPERTS, RANK, HIDDEN, WIDTH = 128, 8, 256, 64
TARGETS = {"diff": 2.0, "merge": 1.5}


def write(folder: Path, layers: int, seed: int) -> Path:
    """One adapter, its numbers from a seed."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    tensors = {}
    for layer in range(layers):
        for expert in range(EXPERTS):
            name = f"base_model.model.model.layers.{layer}.mlp.experts.{expert}.up_proj"
            tensors[f"{name}.lora_A.weight"] = rng.standard_normal((RANK, HIDDEN), np.float32)
            tensors[f"{name}.lora_B.weight"] = rng.standard_normal((WIDTH, RANK), np.float32)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": ["up_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def rows(folder: Path, layers: int) -> list[Row]:
    """`diff` and two merges."""
    plugins = Plugins.from_environment()
    places = [write(folder / name, layers, seed) for seed, name in enumerate(("one", "two"))]
    adapters = [Adapter.open(place) for place in places]
    sources = [OpenAdapter(a, plugins.method_for(a), f"sha256:{i}") for i, a in enumerate(adapters)]
    fresh = count()

    def floor() -> None:
        loaded = [load_file(place / "adapter_model.safetensors") for place in places]
        for tensors in loaded:
            for key, B in tensors.items():
                if "lora_B" in key:
                    A = tensors[key.replace("lora_B", "lora_A")]
                    np.matmul(B.astype(np.float64), A.astype(np.float64))

    def merged(kind: str) -> None:
        strategy = plugins.strategy(kind)
        parents = [Parent(s.digest, 0.5, label=s.digest) for s in sources]
        out = folder / f"merged-{next(fresh)}"
        out.mkdir()
        chosen = recipe.resolve(strategy, parents, [{} for _ in parents], recipe.Choices())
        merge.run(chosen, strategy, sources, out)
        rmtree(out)

    peer = "reading both and one product a module"
    modules = f"{layers * EXPERTS:,} modules"
    return [
        within(
            f"`diff` of 2 × {modules}",
            peer,
            lambda: void(compare.compare(sources, [0.5, 0.5])),
            floor,
            float("inf"),
            3,
        ),
        within(f"`merge` svd, {modules} × 2", peer, lambda: merged("svd"), floor, float("inf"), 3),
        within(
            f"`merge` exact sum, {modules} × 2",
            peer,
            lambda: merged("linear"),
            floor,
            float("inf"),
            3,
        ),
    ]


def void(_result: object) -> None:
    """Nothing is done with it."""


def report(found: list[Row], layers: int) -> str:
    """The page that is written."""
    lines = [
        "# Many small modules",
        "",
        f"Written by `make bench` (`benchmarks/experts.py`): two LoRAs of rank {RANK} on {EXPERTS} experts in each of "
        f"{layers} layers,",
        f"{WIDTH}×{HIDDEN} each. The peer reads both files and multiplies each pair of factors once. Medians of three, in turn;",
        "seconds are those of one machine.",
        "",
        "| work | ours | target | reading and one product a module | ratio |",
        "|---|---|---|---|---|",
    ]
    for row in found:
        goal = TARGETS["diff" if "diff" in row.work else "merge"]
        verdict = "met" if row.ours_s <= goal else "**missed**"
        lines.append(
            f"| {row.work} | {row.ours_s:.2f} s | ≤ {goal:g} s {verdict} | {row.peer_s:.2f} s | {row.ratio:.2f}× |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, show, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=36, metavar="N", help="how many layers")
    layers = parser.parse_args().layers
    with tempfile.TemporaryDirectory(prefix="adaptkit-bench-") as name:
        text = report(rows(Path(name), layers), layers)
    REPORT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
