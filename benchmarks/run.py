"""`make bench`: every speed target of the design that is built, as ratios, into docs/benchmarks.md.

python benchmarks/run.py [--only startup bulk bake …]    all rows, or those of some kinds anew
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import hub
import llama
from bases import asked
from commands import ADAPTKIT, PYTHON, bulk, startup
from timing import NO_TARGET, Row, command, faster, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.plugin.manager import Plugins

REPORT = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def fingerprint(folder: Path) -> list[Row]:
    """Every identity level of a base, its bytes in the page cache; then again, from adaptkit's own cache."""
    from adaptkit.bases.identity import measure

    base, cache = folder / "base", folder / "cache"

    def first() -> None:
        shutil.rmtree(cache, ignore_errors=True)
        measure(base, cache=cache)

    shards = list(map(str, base.glob("*.safetensors")))
    cat, sums = command("cat", *shards), command("sha256sum", *shards)
    rows = [
        within(
            "base fingerprint, tm1",
            "`cat > /dev/null`",
            lambda: measure(base, levels=("tm1",)),
            cat,
            1.5,
            7,
        ),
        within("base fingerprint, all levels", "`sha256sum`, which is in it", first, sums, 1.2, 7),
    ]
    first()
    rows.append(
        faster(
            "base fingerprint, second time",
            "the first time",
            lambda: measure(base, cache=cache),
            lambda: measure(base, cache=None),
            math.inf,
            5,
        )
    )
    return rows


def merge_step(folder: Path) -> list[Row]:
    """The merge alone, everything loaded: PEFT in memory, adaptkit from file to file."""
    from adaptkit.adapters.adapter import Adapter
    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.merge import recipe
    from adaptkit.merge import run as merge
    from adaptkit.plugin.manager import Plugins
    from adaptkit.types import Parent

    plugins = Plugins.from_environment()
    adapters = [Adapter.open(folder / name) for name in ("one", "two")]
    sources = [OpenAdapter(a, plugins.method_for(a), f"sha256:{i}") for i, a in enumerate(adapters)]
    parents = [
        Parent(s.digest, w, label=s.digest) for s, w in zip(sources, llama.WEIGHTS, strict=True)
    ]
    model = llama.load(folder)
    count = iter(range(1000))

    def ours(kind: str) -> None:
        strategy = plugins.strategy(kind)
        out = folder / f"step-{next(count)}"
        out.mkdir()
        merge.run(
            recipe.resolve(strategy, parents, [{} for _ in parents], recipe.Choices()),
            strategy,
            sources,
            out,
        )
        shutil.rmtree(out)

    def theirs(kind: str) -> None:
        name = f"merged{next(count)}"
        llama.merge_with_peft(model, kind, name)
        model.delete_adapter(name)  # type: ignore[attr-defined]

    return [
        faster(
            "svd merge step",
            'PEFT `add_weighted_adapter("svd")`',
            lambda: ours("svd"),
            lambda: theirs("svd"),
            500,
            3,
        ),
    ]


def merge_cold(folder: Path) -> list[Row]:
    """The whole command, from a cold start to files on disk."""
    script = str(Path(llama.__file__))
    rows = []
    for kind, peer, target, runs in (("svd", "svd", 25, 3), ("linear", "cat", 4, 5)):
        out, other = str(folder / f"ours-{kind}"), str(folder / f"peft-{kind}")

        def ours(kind: str = kind, out: str = out) -> None:
            shutil.rmtree(out, ignore_errors=True)
            sources = [
                f"{folder}/{name}={weight}"
                for name, weight in zip(("one", "two"), llama.WEIGHTS, strict=True)
            ]
            command(
                ADAPTKIT,
                "--home",
                str(folder / "home"),
                "merge",
                *sources,
                "--strategy",
                kind,
                "--out",
                out,
            )()

        label = "exact sum" if kind == "linear" else "svd"
        rows.append(
            faster(
                f"`adaptkit merge`, {label}, cold start",
                f"the PEFT script with `{peer}`",
                ours,
                command(PYTHON, script, str(folder), peer, other),
                target,
                runs,
            )
        )
    return rows


def bake(folder: Path) -> list[Row]:
    """A sharded bf16 model with an adapter in its weights: against copying it, and against PEFT's script."""
    base, ours_out, theirs_out = folder / "half", folder / "baked", folder / "peft-baked"
    llama.halve(folder / "base", base)
    copied = str(folder / "copied")

    def ours() -> None:
        shutil.rmtree(ours_out, ignore_errors=True)
        work(base, folder / "one", ours_out)

    def unsynced() -> None:
        shutil.rmtree(ours_out, ignore_errors=True)
        work(base, folder / "one", ours_out, sync=False)

    def copy() -> None:
        shutil.rmtree(copied, ignore_errors=True)
        command("cp", "-r", str(base), copied)()

    def copy_durably() -> None:
        shutil.rmtree(copied, ignore_errors=True)
        command("sh", "-c", f"cp -r {base} {copied} && sync {copied}/* {copied}")()

    def cold() -> None:
        shutil.rmtree(ours_out, ignore_errors=True)
        command(
            ADAPTKIT,
            "--home",
            str(folder / "home"),
            "bake",
            str(folder / "one"),
            "--base",
            str(base),
            "--out",
            str(ours_out),
            "--force",
        )()

    rows = [
        within("bake, work only, --no-sync", "`cp -r` of the model", unsynced, copy, 1.5, 9),
        within("bake, work only", "`cp -r` and `sync` of the copy", ours, copy_durably, 1.1, 9),
        faster(
            "`adaptkit bake`, cold start",
            "the PEFT script with `merge_and_unload`",
            cold,
            command(
                PYTHON,
                str(Path(llama.__file__)),
                "bake",
                str(base),
                str(folder / "one"),
                str(theirs_out),
            ),
            5,
            3,
        ),
    ]
    # The base's class is asked before: transformers and torch take 280 MB, which are no part of the work.
    known = folder / "classes"
    work(base, folder / "one", folder / "asks", cache=known)
    peak = int(
        subprocess.run(
            [
                PYTHON,
                __file__,
                "memory",
                str(base),
                str(folder / "one"),
                str(folder / "m"),
                str(known),
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()[-1]
    )
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    rows.append(
        Row(
            f"bake: largest anonymous memory ({peak / 1e6:.0f} MB)",
            f"the model's {size / 1e6:.0f} MB",
            0,
            0,
            peak / size,
            peak / size,
            peak / size,
            "≤ 250 MB",
            peak <= 250e6,
            1,
        )
    )
    return rows


def work(
    base: Path,
    adapter: Path,
    out: Path,
    *,
    sync: bool = True,
    workers: int | None = None,
    cache: Path | None = None,
) -> None:
    """A bake without starting anything: imports, and finding the plugins, are done by the first one."""
    from adaptkit.adapters.adapter import Adapter
    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bake import run

    with Adapter.open(adapter) as opened:
        run.run(
            OpenAdapter(opened, _plugins().method_for(opened), "sha256:one"),
            base,
            out,
            sync=sync,
            workers=workers,
            cache=cache,
        )


@cache
def _plugins() -> Plugins:
    from adaptkit.plugin.manager import Plugins

    return Plugins.from_environment()


def memory(base: str, adapter: str, out: str, cache: str) -> None:
    """Bake in this process, and print the most anonymous memory that was seen, in bytes."""
    import threading

    most, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            lines = Path("/proc/self/status").read_text().splitlines()
            most[0] = max(
                most[0],
                next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")),
            )

    watcher = threading.Thread(target=watch)
    watcher.start()
    work(Path(base), Path(adapter), Path(out), cache=Path(cache))
    stop.set()
    watcher.join()
    print(most[0])


def report(rows: list[Row]) -> str:
    """The page that is written."""
    import numpy as np
    import peft
    import torch

    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; every figure is a ratio between two things run in turn in the same run.",
        "Absolute times are those of one noisy machine and mean nothing without their ratio.",
        "",
        "Other measured pages: [strategies](strategies.md), [other tools](tools.md), [cost of a merge](cost.md), "
        "[registry at scale](scale.md), [a 7B base](large.md), [serving](serving-benchmarks.md), "
        "[routing](routing.md), [training](training-benchmarks.md), [ranks](ranks.md), [executors](executors.md), [many small modules](experts.md).",
        "",
        (
            f"Machine: {cpu}, {os.cpu_count()} cores. Python {platform.python_version()}, numpy {np.__version__}, "
            f"torch {torch.__version__}, PEFT {peft.__version__}."
        ),
        "",
        "| work | against | ours | theirs | ratio (median, range) | target | runs |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        mark = "" if row.target == NO_TARGET else "met" if row.met else "**missed**"
        lines.append(
            f"| {row.work} | {row.peer} | {row.ours_s:.3f} s | {row.peer_s:.3f} s | {row.ratio:.3g}× "
            f"({row.low:.3g}–{row.high:.3g}) | {row.target} {mark} | {row.runs} |"
        )
    lines += [
        "",
        (
            f"Merges: two LoRA adapters of rank {llama.RANK} on {llama.LAYERS} Llama layers (hidden 2048, MLP 5632, seven "
            "linears each). PEFT has its adapters in memory for the merge step; adaptkit reads files, measures the loss of "
            "every module, and writes and syncs files within the time shown. The exact sum is compared with PEFT's `cat`, "
            "which computes the same thing; PEFT's own `linear` is faster and computes something else."
        ),
        "",
        "Bakes: writing takes as much processor time as all of `cp`, the product of the factors as much again, and so does rounding.",
    ]
    return "\n".join(lines) + "\n"


def kept(page: str, text: str, rows: list[Row]) -> str:
    """The page that stood there, with these rows measured anew."""
    new = {_key(line): line for line in text.splitlines() if line.startswith("| ")}
    lines = [new.pop(_key(line), line) for line in page.splitlines()]
    if missing := [line for key, line in new.items() if any(row.work == key[0] for row in rows)]:
        raise SystemExit("the page has no such row yet, measure all: " + "; ".join(missing))
    return "\n".join(lines) + "\n"


def _key(line: str) -> tuple[str, ...]:
    """What a row is of: the work, whatever figure is in it, and its peer."""
    cells = [re.sub(r"\d+ MB", "", cell).strip() for cell in line.split("|")[1:3]]
    return tuple(cells)


def main() -> None:
    """Measure, show, and write the page."""
    groups: dict[str, Callable[[Path], list[Row]]] = {
        "startup": startup,
        "bulk": bulk,
        "asked": asked,
        "fingerprint": fingerprint,
        "bake": bake,
        "merge": lambda folder: merge_step(folder) + merge_cold(folder),
        "hub": hub.throughput,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=groups, default=list(groups))
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory(prefix="adaptkit-bench-") as name:
        folder = Path(name)
        llama.build(folder)
        rows = [row for group in only for row in groups[group](folder)]
    text = report(rows)
    if only != list(groups):
        text = kept(REPORT.read_text(), text, rows)
    REPORT.write_text(text)
    print(text)


if __name__ == "__main__":
    memory(*sys.argv[2:]) if sys.argv[1:2] == ["memory"] else main()
