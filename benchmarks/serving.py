"""Many adapters on one live base, beside PEFT, as ratios, into docs/serving-benchmarks.md.

    .venv/bin/python benchmarks/serving.py [--small] [--only PART …] [--adapters 1000] [--requests 400]

About four minutes on two slow cores. `--small` runs the same on less, to see that it runs, and `--only` some parts of it;
both write nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import serving_load
from serving_fleet import load_base, save_adapters, save_base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from serving_load import Served

    from adaptkit.serving.bank.bank import Bank

REPORT = Path(__file__).parent.parent / "docs" / "serving-benchmarks.md"
BEGIN, END = "<!-- measured: benchmarks/serving.py -->", "<!-- end of measured -->"
HIDDEN, LAYERS, RANK, ROWS = 256, 4, 8, 32
PARTS = ("swaps", "eviction", "distinct", "batches", "server")
FEW = 3  # rounds that are always made
PATIENCE = 4.0  # seconds for the others


class Times:
    """Contestants that run in turn, so that a drifting machine cancels in their ratios."""

    def __init__(self, contestants: dict[str, Callable[[], object]], rounds: int) -> None:
        self.seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for work in contestants.values():
            work()  # once unmeasured
        until = time.perf_counter() + PATIENCE
        for done in range(rounds):
            if done >= min(FEW, rounds) and time.perf_counter() > until:
                break
            for name, work in contestants.items():
                begun = time.perf_counter()
                taken = work()  # some time a part of themselves
                passed = time.perf_counter() - begun
                self.seconds[name].append(taken if isinstance(taken, float) else passed)

    def ms(self, name: str) -> str:
        """The median, for a table."""
        return f"{statistics.median(self.seconds[name]) * 1000:.1f} ms"

    def ratio(self, name: str, to: str) -> float:
        """The median of the ratios, round by round."""
        pairs = zip(self.seconds[name], self.seconds[to], strict=True)
        return statistics.median(one / other for one, other in pairs)


def loader(bank: Bank, folder: Path) -> Callable[[], Any]:
    """Opens an adapter as the server does: a folder to factors."""
    from adaptkit.adapters.adapter import Adapter
    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.plugin.manager import Plugins

    plugins = Plugins.from_environment()

    def load() -> Any:
        with Adapter.open(folder, views=True) as adapter:
            method = plugins.method_for(adapter)
            return bank.read(OpenAdapter(adapter, method, folder.name))

    return load


@contextmanager
def bank_of(base: Path, folders: Sequence[Path], slots: int) -> Iterator[Bank]:
    """A bank that knows these adapters by number."""
    from adaptkit.serving.bank.bank import Bank

    bank = Bank(load_base(base), slots=slots, rank=RANK)
    for folder in folders:
        bank.put(folder.name, loader(bank, folder))
    yield bank
    bank.close()


def ask(model: Any, ids: Any, **more: Any) -> Any:
    """One step of a model."""
    import torch

    with torch.inference_mode():
        return model(input_ids=ids, use_cache=False, **more).logits


def batches(base: Path, folders: list[Path], sizes: Sequence[int], rounds: int) -> list[str]:
    """A batch on many adapters: the bank, PEFT's `adapter_names`, PEFT on one adapter, and that one merged."""
    import torch
    from peft import PeftModel

    merged = PeftModel.from_pretrained(load_base(base), folders[0]).merge_and_unload()
    one = PeftModel.from_pretrained(load_base(base), folders[0]).eval()
    peft = PeftModel.from_pretrained(load_base(base), folders[0], adapter_name="0")
    for folder in folders[1:]:
        peft.load_adapter(folder, folder.name)
    peft.eval()
    lines = []
    with bank_of(base, folders, len(folders)) as bank:
        for adapters, tokens in [(n, t) for n in sizes for t in (1, 32)]:
            ids = torch.arange(ROWS * tokens).reshape(ROWS, tokens) % 90
            turns = {"bank": count(), "names": count()}

            def names(who: str, of: int = adapters, turns: Any = turns) -> list[str]:
                first = (
                    next(turns[who]) * ROWS
                )  # of more adapters than rows, the next ones each time
                return [str((first + row) % of) for row in range(ROWS)]

            def ours(asked: list[str], ids: Any = ids) -> Any:
                with bank.rows(asked):
                    return ask(bank.model, ids)

            zero = ["0"] * ROWS
            asked = [str(row % adapters) for row in range(ROWS)]
            off = (ours(asked) - ask(peft, ids, adapter_names=asked)).abs().max().item()
            assert off < 1e-4, off
            took = Times(
                {
                    "bank": lambda names=names, ours=ours: ours(names("bank")),
                    "bank on one": lambda ours=ours, zero=zero: ours(zero),
                    "names": lambda ids=ids, names=names: ask(
                        peft, ids, adapter_names=names("names")
                    ),
                    "one": lambda ids=ids: ask(one, ids),
                    "merged": lambda ids=ids: ask(merged, ids),
                },
                rounds,
            )
            target = " (target ≤ 1.2×)" if (adapters, tokens) == (32, 1) else ""
            lines.append(
                f"| {adapters} | {tokens} | {took.ms('bank')} | "
                f"{took.ratio('bank', 'bank on one'):.2f}×{target} | "
                f"{took.ms('names')} | {took.ratio('names', 'bank'):.1f}× | "
                f"{took.ms('one')} | {took.ratio('bank', 'one'):.2f}× | "
                f"{took.ms('merged')} | {took.ratio('bank', 'merged'):.2f}× |"
            )
    return lines


def distinct(base: Path, folders: list[Path], rounds: int) -> list[str]:
    """As many rows as adapters: the first step of a batch, and its later ones."""
    import torch

    rows = len(folders)
    ids = torch.zeros(rows, 1, dtype=torch.long)
    every, zero = [folder.name for folder in folders], ["0"] * rows
    with bank_of(base, folders, rows) as bank:

        def first(asked: list[str]) -> None:
            with bank.rows(asked):
                ask(bank.model, ids)

        took = Times({"many": lambda: first(every), "one": lambda: first(zero)}, rounds)

        def steps(asked: list[str]) -> float:
            with bank.rows(asked):
                for _ in range(4):  # until the batch keeps its factors
                    ask(bank.model, ids)
                begun = time.perf_counter()
                for _ in range(4):
                    ask(bank.model, ids)
                return (time.perf_counter() - begun) / 4

        later = Times({"many": lambda: steps(every), "one": lambda: steps(zero)}, rounds)
    return [
        f"| {rows} rows on {rows} adapters, {name} | {t.ms('many')} | the rows on one adapter | "
        f"{t.ms('one')} | {t.ratio('many', 'one'):.2f}× | ≤ 1.3× |"
        for name, t in (("the first step", took), ("a later step", later))
    ]


def swaps(base: Path, folders: list[Path], rounds: int) -> list[str]:
    """From a folder on disk to an adapter that a batch can use; and from one that is loaded to another."""
    from peft import PeftModel
    from peft.utils.hotswap import hotswap_adapter

    fresh = count()
    peft = PeftModel.from_pretrained(load_base(base), folders[0], adapter_name="first")
    peft.load_adapter(folders[1], "second")
    hot = PeftModel.from_pretrained(load_base(base), folders[0], adapter_name="hot")
    with bank_of(base, folders[:2], 2) as bank:
        load = loader(bank, folders[2])

        def ours() -> float:
            key = f"new{next(fresh)}"
            begun = time.perf_counter()
            bank.put(key, load)
            with bank.rows([key]):
                taken = time.perf_counter() - begun
            bank.remove(key)
            return taken

        def theirs() -> float:
            key = f"new{next(fresh)}"
            begun = time.perf_counter()
            peft.load_adapter(folders[2], key)
            peft.set_adapter(key)
            taken = time.perf_counter() - begun
            peft.set_adapter("first")
            peft.delete_adapter(key)
            return taken

        def switch() -> None:
            for key in ("0", "1"):
                with bank.rows([key]):
                    pass

        def set_adapter() -> None:
            peft.set_adapter("second")
            peft.set_adapter("first")

        took = Times(
            {
                "ours": ours,
                "load": theirs,
                "hotswap": lambda: hotswap_adapter(hot, str(folders[2]), "hot", torch_device="cpu"),
            },
            rounds,
        )
        live = Times({"ours": switch, "theirs": set_adapter}, rounds)
    lines = [
        f"| adapter from disk into a live model | {took.ms('ours')} | {peer} | {took.ms(name)} | "
        f"{took.ratio(name, 'ours'):.1f}× faster | {target} |"
        for name, peer, target in (
            ("load", "PEFT `load_adapter` + `set_adapter`", "≥ 15×"),
            ("hotswap", "PEFT `hotswap_adapter`, which loses the old one", "none"),
        )
    ]
    lines.append(
        f"| to another adapter in a slot, and back | {live.ms('ours')} | PEFT `set_adapter`, twice | "
        f"{live.ms('theirs')} | {live.ratio('theirs', 'ours'):.1f}× faster | none |"
    )
    return lines


def eviction(base: Path, folders: list[Path], rounds: int) -> list[str]:
    """First tokens of 16 adapters in turn, through 8 slots and with all of them in slots."""
    import torch

    ids = torch.arange(16)[None]
    with bank_of(base, folders[:16], 8) as few, bank_of(base, folders[:16], 16) as all_in:

        def through(bank: Bank) -> None:
            for folder in folders[:16]:
                with bank.rows([folder.name]):
                    ask(bank.model, ids)

        took = Times({"few": lambda: through(few), "all": lambda: through(all_in)}, rounds)
        assert few.swaps >= 16 * rounds / 2
    return [
        f"| first tokens of 16 adapters in turn, in 8 slots | {took.ms('few')} | all 16 in slots | "
        f"{took.ms('all')} | {took.ratio('few', 'all'):.2f}× | ≤ 2× |"
    ]


def of_server(served: Served) -> list[str]:
    """The lines on the server."""
    plain = served.passes[0]
    return [
        f"The server, a process of its own on a smaller Llama: {served.adapters:,} adapters of rank "
        f"{serving_load.RANK} in the registry, asked for by Zipf's law (exponent 1.2) by {serving_load.CLIENTS} clients, "
        f"{serving_load.TOKENS} tokens a request, {serving_load.SLOTS} slots, memory for {serving_load.IN_MEMORY} "
        "adapters. *Cold* is the first pass after the start, *warm* the same requests again.",
        "",
        "| requests | a second | beside the base | p50 | beside it | p99 | beside it | adapters read |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {len(one.latencies)} on {one.name} | {one.rate:.1f} | {one.rate / plain.rate:.2f}× | "
            f"{one.quantile(50) * 1000:.0f} ms | {one.quantile(50) / plain.quantile(50):.2f}× | "
            f"{one.quantile(99) * 1000:.0f} ms | {one.quantile(99) / plain.quantile(99):.2f}× | {one.loads} |"
            for one in served.passes
        ),
        "",
        "| memory of one adapter | bytes | beside its file |",
        "|---|---|---|",
        *(
            f"| {name} | {size:,.0f} | {size / served.file_bytes:.2f}× |"
            for name, size in (
                ("its file", served.file_bytes),
                ("in the computer's memory", served.host_bytes),
                ("a slot on the device", served.slot_bytes),
            )
        ),
    ]


def report(parts: dict[str, list[str]], served: Served) -> str:
    """The page's measured part."""
    import peft
    import torch
    import transformers

    lines = [
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; torch "
        f"{torch.__version__}, transformers {transformers.__version__}, PEFT {peft.__version__}. A Llama of {LAYERS} "
        f"layers, hidden {HIDDEN}, fp32; adapters of rank {RANK} on all seven linears of a layer.",
        "",
        f"A batch of {ROWS} rows. *Of one* is beside the bank with one adapter in every row; of 128 adapters each batch "
        "takes the next 32. The other ratios are the bank beside PEFT: above 1× for `adapter_names` PEFT takes longer, "
        "above 1× for the last two the bank does, with many adapters against one.",
        "",
        "| adapters | tokens a row | bank | of one | `adapter_names` | beside the bank | PEFT, one adapter "
        "| bank ÷ it | PEFT, merged | bank ÷ it |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *parts["batches"],
        "",
        "| work | ours | against | theirs | ratio | target |",
        "|---|---|---|---|---|---|",
        *(line for part in ("swaps", "eviction", "distinct") for line in parts[part]),
        "",
        *of_server(served),
    ]
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the measured part into the page, between its marks."""
    page = REPORT.read_text("utf-8")
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    REPORT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")


def main() -> None:
    """Measure, show, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--small", action="store_true", help="less of everything, no page")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts, no page")
    parser.add_argument("--adapters", type=int, default=1000, help="adapters of the server")
    parser.add_argument("--requests", type=int, default=400, help="requests of each pass")
    asked = parser.parse_args()
    small, only = asked.small, set(asked.only or PARTS)
    warnings.filterwarnings("ignore")
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="adaptkit-bench-") as name:
        base = save_base(Path(name) / "base", *((64, 2) if small else (HIDDEN, LAYERS)))
        folders = save_adapters(base, Path(name) / "adapters", 40 if small else 128, RANK)
        rounds = 3 if small else 7
        sizes = (1, 32) if small else (1, 8, 32, 128)
        parts: dict[str, list[str]] = {}
        for part, measure in (
            ("swaps", lambda: swaps(base, folders, rounds)),
            ("eviction", lambda: eviction(base, folders, rounds)),
            ("distinct", lambda: distinct(base, folders, rounds)),
            ("batches", lambda: batches(base, folders, sizes, rounds)),
        ):
            if part in only:
                parts[part] = measure()
                print(f"{part}:", *parts[part], sep="\n", file=sys.stderr)
    if "server" in only:
        served = serving_load.measure(*((60, 40) if small else (asked.adapters, asked.requests)))
        print("server:", *of_server(served), sep="\n", file=sys.stderr)
    if only == set(PARTS):
        text = report(parts, served)
        if not small:
            write(text)
        print(text)
    print(f"{time.perf_counter() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
