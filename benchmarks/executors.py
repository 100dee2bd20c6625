"""Executors: what handing a task over costs, and from where on a merge's modules are worth it.

    .venv/bin/python benchmarks/executors.py [--only bake]

writes docs/executors.md, with `--only bake` just the line about a bake anew. Two workers on this machine; Dask's on 127.0.0.1. A task sleeps, so that the cores of a busy
machine do not count; the ideal is the tasks' own time divided by the workers. The merge is of two Llama-shaped adapters.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "shared"))

import clusters

from adaptkit.extend import Module
from adaptkit.extend.executor import Executor, TaskNeeds
from adaptkit.merge.plan import ModulePlan
from adaptkit.workspace.tasks.bake import PER_SECOND as BAKED_PER_SECOND
from adaptkit.workspace.tasks.merge import PER_SECOND, estimate
from adaptkit_plugins.executors.dask import Dask
from adaptkit_plugins.executors.local import Local

if TYPE_CHECKING:
    from collections.abc import Callable

REPORT = Path(__file__).parent.parent / "docs" / "executors.md"
TASKS, SECONDS, SMALL = 16, 0.5, 200
TARGET = 1.1
BAKE = "It bakes "


def measured(opened: Callable[[], Executor]) -> SimpleNamespace:
    """Seconds until the first result; tasks of half a second against the ideal; the cost of an empty one."""
    begun = time.perf_counter()
    with opened() as executor:
        executor.submit(abs, -1).result()
        up = time.perf_counter() - begun
        workers = executor.capabilities.workers
        for one in [executor.submit(time.sleep, 0.01) for _ in range(2 * workers)]:
            one.result()
        ratios = [wall(executor, TASKS, SECONDS) / (TASKS * SECONDS / workers) for _ in range(3)]
        empty = wall(executor, SMALL, 0.0) / SMALL
    return SimpleNamespace(up=up, ratio=median(ratios), empty=1000 * empty)


def wall(executor: Executor, count: int, seconds: float) -> float:
    begun = time.perf_counter()
    for one in [executor.submit(time.sleep, seconds) for _ in range(count)]:
        one.result()
    return time.perf_counter() - begun


def svd_rate() -> float:
    """What `estimate` counts as multiplications, in a second of one thread, on modules of a Llama layer."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from adaptkit.algebra.lowrank import svd
    from adaptkit.extend import LowRank

    rng = np.random.default_rng(0)
    shapes = [(4096, 4096), (4096, 4096), (11008, 4096), (4096, 11008)]
    plans, deltas = [], []
    for number, (rows, columns) in enumerate(shapes):
        part = Module(f"layers.{number}", "linear", (rows, columns), 16, (rows, columns))
        plans.append(ModulePlan(part, (("a", part), ("b", part))))
        deltas.append(LowRank(rng.standard_normal((rows, 32)), rng.standard_normal((32, columns))))
    with threadpool_limits(1):
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            for delta in deltas:
                svd(delta)
            times.append(time.perf_counter() - begun)
    return estimate(plans).seconds * PER_SECOND / median(times)


def bake_rate(folder: Path) -> float:
    """Bytes of a bf16 model that one thread bakes in a second, without waiting for the disk."""
    import llama
    from run import work

    llama.build(folder)
    llama.halve(folder / "base", folder / "half")
    size = sum(file.stat().st_size for file in (folder / "half").glob("*.safetensors"))
    times = []
    for _ in range(9):
        begun = time.process_time()  # with one thread, what a free core would take
        work(folder / "half", folder / "one", folder / "baked", sync=False, workers=1)
        times.append(time.process_time() - begun)
        shutil.rmtree(folder / "baked")
    return size / min(times)


def bake_line(folder: Path) -> str:
    return (
        f"{BAKE}{bake_rate(folder) / 1e9:.2f} GB of a bf16 model in a second; "
        f"the estimate takes {BAKED_PER_SECOND / 1e9:g} GB."
    )


def only_bake() -> None:
    """The page, with the line about a bake measured again."""
    with tempfile.TemporaryDirectory() as folder:
        line = bake_line(Path(folder))
    kept = [old for old in REPORT.read_text().splitlines() if not old.startswith(BAKE)]
    REPORT.write_text("\n".join([*kept, line, ""]))
    print(line)


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["bake"])
    if parser.parse_args().only:
        only_bake()
        return
    rows = {"local": measured(lambda: Local.open("local", workers=2, needs=TaskNeeds()))}
    with tempfile.TemporaryDirectory() as folder, clusters.dask(Path(folder)) as url:
        rows["dask"] = measured(lambda: Dask.open(url, workers=None, needs=TaskNeeds()))
        baked = bake_line(Path(folder))
    rate = svd_rate()
    lines = [
        "# Executors, measured",
        "",
        "Written by `benchmarks/executors.py`: two workers on this machine, medians of three.",
        "",
        f"| executor | first result | {TASKS} tasks of {SECONDS} s against the ideal | an empty task |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row.up:.2f} s | {row.ratio:.3f}× (target ≤ {TARGET}×: "
            f"{'met' if row.ratio <= TARGET else 'missed'}) | {row.empty:.2f} ms |"
            for name, row in rows.items()
        ),
        "",
        f"A thread does {rate / 1e9:.1f}·10⁹ of the multiplications that the estimate of a merge counts; the estimate takes "
        f"{PER_SECOND / 1e9:g}·10⁹.",
        baked,
        "",
    ]
    REPORT.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
