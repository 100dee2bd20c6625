"""What `regmean` of one Llama-shaped layer costs beside the exact sum, and how large its moments are.

python benchmarks/moments.py        prints the table of docs/calibrated-merging.md, and writes it there
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

HIDDEN, INNER, RANK, ROUNDS = 4096, 11008, 16, 5
PAGE = Path(__file__).parent.parent / "docs" / "calibrated-merging.md"
BEGIN, END = "<!-- cost: benchmarks/moments.py -->\n", "<!-- end of cost -->"
SHAPES = {
    **{f"self_attn.{p}_proj": (HIDDEN, HIDDEN, "g0") for p in "qkv"},
    "self_attn.o_proj": (HIDDEN, HIDDEN, "g1"),
    "mlp.gate_proj": (INNER, HIDDEN, "g2"),
    "mlp.up_proj": (INNER, HIDDEN, "g2"),
    "mlp.down_proj": (HIDDEN, INNER, "g3"),
}


def adapter(folder: Path, seed: int) -> Path:
    """A LoRA of rank 16 on every linear module of one layer, random."""
    from safetensors.numpy import save_file

    rng, tensors = np.random.default_rng(seed), {}
    for name, (rows, columns, _) in SHAPES.items():
        key = f"base_model.model.model.layers.0.{name}"
        tensors[f"{key}.lora_A.weight"] = rng.standard_normal((RANK, columns), np.float32)
        tensors[f"{key}.lora_B.weight"] = rng.standard_normal((rows, RANK), np.float32)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "task_type": "CAUSAL_LM"}
    targets = sorted({name.rpartition(".")[2] for name in SHAPES})
    (folder / "adapter_config.json").write_text(json.dumps({**config, "target_modules": targets}))
    return folder


def moments(workspace: Any, digest: str, seed: int, folder: Path) -> int:
    """Moments over 800 tokens of random inputs, kept as `calibrate` keeps them; their bytes."""
    from adaptkit.algebra.moments import Sketch
    from adaptkit.merge.moments import About, write
    from adaptkit.workspace.context.moments import kept_moments

    rng, found = np.random.default_rng(100 + seed), {}
    for _, columns, group in SHAPES.values():
        if group not in found:
            sketch = Sketch(columns)
            for _ in range(8):
                sketch.add(rng.standard_normal((100, columns)))
            found[group] = sketch.moment()
    modules = {f"model.layers.0.{name}": group for name, (_, _, group) in SHAPES.items()}
    files = write(About(digest, 16, 800, "", modules), found, folder)
    kept_moments(workspace).keep(digest, files)
    return sum(map(len, files.values()))


def best(work: Callable[[int], Any]) -> float:
    """The least CPU time of a few rounds, in seconds."""
    took = []
    for round_ in range(ROUNDS):
        began = process_time()
        work(round_)
        took.append(process_time() - began)
    return min(took)


def main() -> None:
    """Merge the layer both ways, and write what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--print", action="store_true", help="write no page")
    only_print = parser.parse_args().print
    from adaptkit import Workspace

    with (
        tempfile.TemporaryDirectory(prefix="adaptkit-moments-") as name,
        Workspace.init(name, notify=lambda _: None) as ws,
    ):
        folder = Path(name)
        for seed, called in enumerate(("naval", "medic")):
            version = ws.add(adapter(folder / called, seed), called).version
            size = moments(ws, version.digest, seed, folder)
        took = {
            strategy: best(
                lambda i, s=strategy: ws.merge(
                    ["naval", "medic"], out=folder / f"{s}-{i}", strategy=s, workers=1
                )
            )
            for strategy in ("cat", "regmean")
        }
    ratio = took["regmean"] / took["cat"]
    text = (
        f"One layer with {HIDDEN:,} hidden and {INNER:,} inner dimensions, two adapters of rank {RANK}, seven modules, one "
        f"thread, CPU time of the whole operation: exact sum {1000 * took['cat']:.0f} ms, `regmean` "
        f"{1000 * took['regmean']:.0f} ms, {ratio:.1f} times as much. Its moments take {size / 1e6:.1f} MB an adapter."
    )
    print(text)
    if not only_print:
        page = PAGE.read_text()
        before, after = page.partition(BEGIN)[0], page.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{after}")


if __name__ == "__main__":
    main()
