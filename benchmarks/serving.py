"""`make bench`: many adapters on one live base, as ratios, into docs/serving-benchmarks.md.

`--small` runs the same on a model of a few seconds, to see that it runs.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timing import NO_TARGET, Row, faster, within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from adaptkit.serving.bank.bank import Bank

REPORT = Path(__file__).parent.parent / "docs" / "serving-benchmarks.md"
SMALL = "--small" in sys.argv
HIDDEN, LAYERS, RANK = (64, 2, 4) if SMALL else (768, 4, 8)
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ROWS, RUNS = 32, 3 if SMALL else 9


def make_model() -> Any:
    """A Llama with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN * 8 // 3 // 16 * 16,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


def save_adapters(model: Any, folder: Path, count: int) -> list[Path]:
    """Adapters of one shape with other values: PEFT saves the first, the rest have its configuration."""
    import shutil

    import torch
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file

    first = folder / "0"
    wrapped = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))
    wrapped.save_pretrained(first)
    wrapped.unload()
    shapes = load_file(first / "adapter_model.safetensors")
    for number in range(count):
        torch.manual_seed(number)
        values = {key: torch.randn(value.shape) * 0.02 for key, value in shapes.items()}
        target = folder / str(number)
        target.mkdir(exist_ok=True)
        save_file(values, target / "adapter_model.safetensors", {"format": "pt"})
        if number:
            shutil.copyfile(first / "adapter_config.json", target / "adapter_config.json")
    return [folder / str(number) for number in range(count)]


class Loader:
    """Opens adapters as the server does: a folder to factors."""

    def __init__(self, bank: Bank) -> None:
        from adaptkit.plugin.manager import Plugins

        self.bank, self.plugins = bank, Plugins.from_environment()

    def of(self, folder: Path) -> Callable[[], Any]:
        def load() -> Any:
            from adaptkit.adapters.adapter import Adapter
            from adaptkit.adapters.opened import OpenAdapter

            with Adapter.open(folder) as adapter:
                method = self.plugins.method_for(adapter)
                return self.bank.read(OpenAdapter(adapter, method, folder.name))

        return load


@contextmanager
def bank_of(model: Any, folders: Sequence[Path], slots: int, **how: Any) -> Iterator[Bank]:
    """A bank that knows these adapters by number."""
    from adaptkit.serving.bank.bank import Bank

    bank = Bank(model, slots=slots, rank=RANK, **how)
    loader = Loader(bank)
    for folder in folders:
        bank.put(folder.name, loader.of(folder))
    yield bank
    bank.close()


def forward(model: Any, ids: Any) -> None:
    import torch

    with torch.inference_mode():
        model(ids, use_cache=False)


def batches(model: Any, folders: list[Path]) -> list[Row]:
    """A batch on many adapters against the same batch on one, and against PEFT's `adapter_names`."""
    import torch

    targets = {(32, 1): 1.2, (128, 1): 1.3}
    rows = []
    with bank_of(model, folders, len(folders)) as bank:
        for adapters in (8, 32, 128):
            count = max(ROWS, adapters)
            for tokens in (1, 32):
                ids = torch.ones(count, tokens, dtype=torch.long)
                with bank.rows([str(row % adapters) for row in range(count)]):
                    forward(model, ids)

                def mixed(adapters: int = adapters, count: int = count, ids: Any = ids) -> None:
                    with bank.rows([str(row % adapters) for row in range(count)]):
                        forward(model, ids)

                def single(count: int = count, ids: Any = ids) -> None:
                    with bank.rows(["0"] * count):
                        forward(model, ids)

                work = f"batch of {count} on {adapters} adapters, {tokens} tokens each"
                bound = targets.get((adapters, tokens), math.inf)
                rows.append(within(work, "the batch on one adapter", mixed, single, bound, RUNS))
        with bank.rows(["0"] * ROWS):
            forward(model, torch.ones(ROWS, 1, dtype=torch.long))

    from peft import PeftModel

    peft = PeftModel.from_pretrained(model, folders[0], adapter_name="0")
    for folder in folders[1:ROWS]:
        peft.load_adapter(folder, folder.name)
    peft.eval()
    for tokens in (1, 32):
        ids = torch.ones(ROWS, tokens, dtype=torch.long)
        names = [str(row) for row in range(ROWS)]

        def theirs(ids: Any = ids, names: Any = names) -> None:
            with torch.inference_mode():
                peft(input_ids=ids, adapter_names=names, use_cache=False)

        def one(ids: Any = ids) -> None:
            with torch.inference_mode():
                peft(input_ids=ids, adapter_names=["0"] * ROWS, use_cache=False)

        work = f"the same in PEFT, `adapter_names`: {ROWS} on {ROWS}, {tokens} tokens"
        rows.append(within(work, "PEFT's batch on one adapter", theirs, one, math.inf, RUNS))
    peft.unload()
    return rows


def from_disk(model: Any, folders: list[Path]) -> list[Row]:
    """From a folder on disk to an adapter that rows can use."""
    from peft import PeftModel

    numbers = iter(range(10_000))
    peft = PeftModel.from_pretrained(make_model(), folders[0], adapter_name="first")

    with bank_of(model, folders[:2], 2) as bank:
        loader = Loader(bank)

        def ours() -> None:
            key = f"new{next(numbers)}"
            bank.put(key, loader.of(folders[1]))
            with bank.rows([key]):
                pass
            bank.remove(key)

        def theirs() -> None:
            key = f"new{next(numbers)}"
            peft.load_adapter(folders[1], key)
            peft.set_adapter(key)
            peft.delete_adapter(key)

        peer = "PEFT `load_adapter` + `set_adapter`"
        return [faster("adapter from disk into a live model", peer, ours, theirs, 15, RUNS)]


def eviction(model: Any, folders: list[Path]) -> list[Row]:
    """First tokens of 16 adapters in turn, through 8 slots and with all of them in slots."""
    import torch

    ids = torch.ones(1, 16, dtype=torch.long)
    with bank_of(model, folders[:16], 8) as few, bank_of(model, folders[:16], 16) as all_in:

        def through(bank: Bank) -> Callable[[], None]:
            def run() -> None:
                for folder in folders[:16]:
                    with bank.rows([folder.name]):
                        forward(model, ids)

            return run

        through(all_in)()
        work, peer = "first token, 16 adapters in 8 slots", "all 16 in slots"
        return [within(work, peer, through(few), through(all_in), 2, RUNS)]


def thousand(model: Any, folders: list[Path]) -> list[Row]:
    """1,000 adapters, asked for by Zipf's law, from a memory that holds 50."""
    import numpy as np
    import torch

    ids = torch.ones(1, 8, dtype=torch.long)
    asked = np.random.default_rng(0).zipf(1.2, 4000) - 1
    keys = [str(key) for key in asked if key < 1000][: 100 if SMALL else 600]
    with bank_of(model, folders, 8) as bank:
        size = bank.host.get("0").nbytes
        loader = Loader(bank)
        for number in range(1000):
            bank.put(str(number), loader.of(folders[number % len(folders)]))
        bank.host.budget = 50 * size
        times = []
        for key in keys:
            start = time.perf_counter()
            with bank.rows([key]):
                forward(model, ids)
            times.append(time.perf_counter() - start)
            assert bank.host.nbytes <= bank.host.budget
        warm = []
        for _ in keys[:100]:
            start = time.perf_counter()
            with bank.rows(["0"]):
                forward(model, ids)
            warm.append(time.perf_counter() - start)
        p99 = statistics.quantiles(times, n=100)[98]
        middle, resident = statistics.median(times), statistics.median(warm)
        work = f"{len(keys)} requests over 1,000 adapters, memory for 50 ({bank.host.loads} loads)"
        peer = "one adapter in its slot"
        return [
            Row(
                f"{work}, {name}",
                peer,
                value,
                resident,
                *(value / resident,) * 3,
                NO_TARGET,
                True,
                1,
            )
            for name, value in (("median", middle), ("p99", p99))
        ]


def report(rows: list[Row], each: int) -> str:
    """The page."""
    import peft
    import torch

    lines = [
        "# Serving, measured",
        "",
        "Written by `make bench` (`benchmarks/serving.py`). Every figure is a ratio between two things run in turn in the",
        "same run; absolute times are those of one noisy machine and mean nothing without their ratio.",
        "",
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads. torch {torch.__version__}, "
        f"PEFT {peft.__version__}. A Llama of {LAYERS} layers, hidden {HIDDEN}, fp32; adapters of rank {RANK} on all seven "
        f"linears of a layer, {each / 1e6:.2f} MB each.",
        "",
        "| work | against | ours | theirs | ratio (median, range) | target | runs |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        mark = "" if row.target == NO_TARGET else "met" if row.met else "**missed**"
        lines.append(
            f"| {row.work} | {row.peer} | {row.ours_s * 1000:.1f} ms | {row.peer_s * 1000:.1f} ms | "
            f"{row.ratio:.3g}× ({row.low:.3g}–{row.high:.3g}) | {row.target} {mark} | {row.runs} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, show, and write the page."""
    with tempfile.TemporaryDirectory(prefix="adaptkit-bench-") as name:
        model = make_model()
        folders = save_adapters(model, Path(name), 128)
        each = (folders[1] / "adapter_model.safetensors").stat().st_size
        rows = from_disk(model, folders) + eviction(model, folders)
        rows += thousand(model, folders) + batches(model, folders)
    text = report(rows, each)
    if not SMALL:
        REPORT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
