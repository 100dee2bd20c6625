"""`make bench-large`: a 7B Llama's layout through `base add`, `merge`, `resize` and `bake`, beside PEFT where it fits.

    .venv/bin/python benchmarks/large.py [--small] [--folder DIR] [--peft]

Writes docs/large.md, unless `--small`. The base is sparse: 32 layers in seven shards of bf16, all zeros, which take no room
where the file system has holes; the adapters are two LoRAs of rank 16 on all 224 linears, of random numbers. What is baked
is real: 13.5 GB, removed at the end. Memory is the most anonymous memory of the command's process, seen every 10 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

ADAPTKIT = str(Path(sys.executable).parent / "adaptkit")
REPORT = Path(__file__).parent.parent / "docs" / "large.md"
RANK = 16


@dataclass(frozen=True)
class Shape:
    """What of a Llama decides the size of its tensors."""

    layers: int
    hidden: int
    mlp: int
    vocabulary: int
    shard: int
    """Bytes of a shard, about."""


LLAMA_7B = Shape(32, 4096, 11008, 32000, 2_000_000_000)
SMALL = Shape(4, 256, 688, 1000, 2_000_000)


@dataclass(frozen=True)
class Measured:
    """One command: what it took."""

    work: str
    seconds: float
    written: int
    peak: int


def linears(shape: Shape) -> Iterator[tuple[str, tuple[int, int]]]:
    """Every linear that an adapter may change, with its shape."""
    h, m = shape.hidden, shape.mlp
    sizes = {
        **{f"self_attn.{p}_proj": (h, h) for p in "qkvo"},
        "mlp.gate_proj": (m, h),
        "mlp.up_proj": (m, h),
        "mlp.down_proj": (h, m),
    }
    for layer in range(shape.layers):
        for name, size in sizes.items():
            yield f"model.layers.{layer}.{name}", size


def tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the base."""
    yield "model.embed_tokens.weight", (shape.vocabulary, shape.hidden)
    for name, size in linears(shape):
        yield f"{name}.weight", size
    for layer in range(shape.layers):
        for norm in ("input", "post_attention"):
            yield f"model.layers.{layer}.{norm}_layernorm.weight", (shape.hidden,)
    yield "model.norm.weight", (shape.hidden,)
    yield "lm_head.weight", (shape.vocabulary, shape.hidden)


def write_base(folder: Path, shape: Shape) -> int:
    """Headers, and holes for the numbers; the bytes they stand for."""
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.hidden // 128,
        "num_key_value_heads": shape.hidden // 128,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    size = 0
    for name, dimensions in tensors(shape):
        if size >= shape.shard:
            shards.append([])
            size = 0
        shards[-1].append((name, dimensions))
        size += 2 * prod(dimensions)
    where, total = {}, 0
    for number, part in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        header, at = {}, 0
        for name, dimensions in part:
            end = at + 2 * prod(dimensions)
            header[name] = {"dtype": "BF16", "shape": dimensions, "data_offsets": [at, end]}
            where[name], at = file, end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            out.truncate(8 + len(text) + at)
        total += at
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def write_adapter(folder: Path, shape: Shape, seed: int, base: Path) -> None:
    """A LoRA of rank 16 on every linear."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(seed)
    made = {}
    for name, (rows, columns) in linears(shape):
        for key, size in (("A", (RANK, columns)), ("B", (rows, RANK))):
            values = rng.standard_normal(size, np.float32) * np.float32(0.02)
            made[f"base_model.model.{name}.lora_{key}.weight"] = values
    folder.mkdir()
    save_file(made, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(base),
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": sorted({name.rpartition(".")[2] for name, _ in linears(shape)}),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def measured(work: str, made: Path | None, *command: str) -> Measured:
    """Run a command to its end, and look at its memory meanwhile."""
    begun, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            peak = max(peak, anonymous(status))
            time.sleep(0.01)
    if process.returncode:
        sys.exit(f"{work} failed: {' '.join(command)}")
    seconds = time.perf_counter() - begun
    written = sum(f.stat().st_size for f in made.rglob("*") if f.is_file()) if made else 0
    return Measured(work, seconds, written, peak)


def anonymous(status: Path) -> int:
    """Bytes of anonymous memory; 0 where the process has just ended."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def measure(folder: Path, shape: Shape, *, peft: bool) -> tuple[int, list[Measured]]:
    """The whole way, and PEFT's bake where it is asked for."""
    base, out = folder / "base", folder / "out"
    total = write_base(base, shape)
    for seed, name in enumerate(("one", "two")):
        write_adapter(folder / name, shape, seed, base)
    home = ("--home", str(folder / "home"))
    one, two, merged = (str(folder / name) for name in ("one", "two", "merged"))
    small, baked = str(folder / "small"), out / "baked"
    subprocess.run([ADAPTKIT, *home, "init"], check=True, stdout=subprocess.DEVNULL)
    count = f"{7 * shape.layers} modules"
    run = (ADAPTKIT, *home)
    rows = [
        measured("`base add`: every level", None, *run, "base", "add", str(base), "--name", "b"),
        measured(
            f"`merge` svd of two, {count}",
            Path(merged),
            *(*run, "merge", f"{one}=0.7", f"{two}=0.3", "--strategy", "svd", "--out", merged),
        ),
        measured(
            "`resize` to rank 8", Path(small), *run, "resize", merged, "--rank", "8", "--out", small
        ),
    ]
    bake = (*run, "bake", merged, "--base", str(base), "--out", str(baked))
    rows.append(measured("`bake`, synced", baked, *bake))
    shutil.rmtree(out)
    if peft:
        script = str(Path(__file__).parent / "llama.py")
        arguments = (sys.executable, script, "bake", str(base), merged, str(out))
        rows.append(measured("PEFT: `merge_and_unload`, saved", out, *arguments))
        shutil.rmtree(out)
    return total, rows


def report(total: int, rows: list[Measured], disk: str) -> str:
    """The page."""
    lines = [
        "# A large base",
        "",
        "Written by `make bench-large` (`benchmarks/large.py`): a Llama of 7B parameters in bf16, "
        f"{total / 1e9:.1f} GB in shards, sparse,",
        f"and two LoRAs of rank {RANK} on all its linears. {os.cpu_count()} cores; {disk}. Each row is one "
        "command from its start to its end;",
        "the peak is of anonymous memory, and the rate that of the base's bytes where it is read whole.",
        "",
        "| command | seconds | written | peak memory | GB/s |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        whole = not row.work.startswith(("`merge", "`resize"))
        rate = f"{total / 1e9 / row.seconds:.2f}" if whole else ""
        lines.append(
            f"| {row.work} | {row.seconds:.1f} | {row.written / 1e9:.2f} GB "
            f"| {row.peak / 1e6:,.0f} MB | {rate} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, show, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--peft", action="store_true", help="takes twice the base in memory")
    parser.add_argument("--folder", default=None, help="where 15 GB are free")
    chosen = parser.parse_args()
    shape = SMALL if chosen.small else LLAMA_7B
    need = 2 * (2 * sum(prod(size) for _, size in tensors(shape)))
    with tempfile.TemporaryDirectory(prefix="adaptkit-large-", dir=chosen.folder) as name:
        free = shutil.disk_usage(name).free
        if free < need:
            sys.exit(
                f"{name} has {free / 1e9:.0f} GB free, {need / 1e9:.0f} are needed: --folder DIR"
            )
        total, rows = measure(Path(name), shape, peft=chosen.peft)
        base = Path(name) / "base"
        sparse = sum(f.stat().st_blocks * 512 for f in base.iterdir()) < total / 2
        disk = "the file system has holes" if sparse else "the file system has no holes"
    text = report(total, rows, disk)
    print(text)
    if not chosen.small:
        REPORT.write_text(text)


if __name__ == "__main__":
    main()
