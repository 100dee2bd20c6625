"""The weight files of one bake on workers that see its folder, when there is enough to write."""

from __future__ import annotations

import platform
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.bake.apply import Rounding
from adaptkit.bake.plan import by_file, plan_bake
from adaptkit.bake.shards import write_shards
from adaptkit.bake.weight_files import DoneShard
from adaptkit.bake.work_folder import read_journal, sync_folders
from adaptkit.bases.files.checkpoint import weight_files
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import BakeError, ExecutorError
from adaptkit.extend import no_progress
from adaptkit.workspace.context.executor import executor_url
from adaptkit.workspace.tasks.asked_base import AskedBase
from adaptkit.workspace.tasks.merge import Estimate
from adaptkit.workspace.tasks.run import open_executor
from adaptkit.workspace.tasks.supply import Supply, cache_folder, plugins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptkit.bake.weight_files import Asked, Elsewhere
    from adaptkit.bases.known import Base
    from adaptkit.extend import Executor
    from adaptkit.workspace.context.context import Context

PER_SECOND = 0.7e9
"""Bytes of a bf16 model that one thread widens, updates, rounds and writes in a second (docs/design.md)."""


@dataclass(frozen=True, slots=True)
class AskedShard:
    """One weight file of a bake: its adapter and base, and the folder to write it into."""

    supply: Supply
    base: AskedBase
    digest: str
    label: str
    work: str
    key: str
    file: str
    dtype: str | None
    sync: bool


def bake_estimate(base: Path) -> Estimate:
    """What a bake takes, by the bytes of its base."""
    return Estimate(sum(file.stat().st_size for file in weight_files(base)) / PER_SECOND)


def shards_elsewhere(
    context: Context, on: str | None, source: OpenAdapter, base: Base, workers: int | None
) -> Elsewhere | None:
    """How to write the shards on the executor in force; None where threads of this process do it."""
    url = executor_url(context, on)
    if url is None:
        return None
    assert base.folder is not None
    guess = bake_estimate(base.folder)
    if source.base is not None or not context.store.holds(source.digest):
        context.notify(f"the bake stays in this process: no worker of {url} could name its adapter")
        return None
    if not guess.pays:
        context.notify(f"the bake stays in this process: {guess.why}")
        return None

    def make(asked: Asked) -> Iterator[DoneShard]:
        executor = open_executor(context, url, workers=workers)
        assert executor is not None
        supply = Supply.of(context, [source.digest])
        with executor:
            yield from shards_on(executor, supply, source, base, asked)

    return make


def shards_on(
    executor: Executor, supply: Supply, source: OpenAdapter, base: Base, asked: Asked
) -> Iterator[DoneShard]:
    """Each weight file that is asked for, as it is finished; the first error drops the rest."""
    if not executor.capabilities.shared_files:
        raise ExecutorError(
            "cannot bake on these workers",
            why=f"they do not see {asked.work}",
            fix="--on local; or ?shared=yes behind the address, where they do",
        )
    there = AskedBase.of(base, executor)
    futures = [
        executor.submit(
            bake_one,
            AskedShard(
                supply,
                there,
                source.digest,
                source.label,
                str(asked.work),
                asked.key,
                file,
                asked.dtype,
                asked.sync,
            ),
        )
        for file in asked.files
    ]
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def bake_one(asked: AskedShard) -> DoneShard:
    """On a worker: one weight file, which appears in the folder of its bake whole or not at all."""
    work, base = Path(asked.work), Path(asked.base.folder)
    if read_journal(work).get("key") != asked.key:
        raise BakeError(
            f"the worker {platform.node()} cannot write into {work}",
            why="it is that of another bake" if work.is_dir() else "there is no such folder",
            fix="bake into a folder that every worker sees under the same path",
        )
    asked.base.check()
    cache = Path(asked.base.cache) if asked.base.cache else cache_folder() / "bases"
    rounding, known = Rounding(), plugins()
    with (
        Adapter.open(asked.supply.bring(asked.digest), asked.label) as adapter,
        BaseWeights.open(base, cache) as weights,
    ):
        adapter.attach_base(weights)
        source = OpenAdapter(adapter, known.method_for(adapter), asked.digest)
        planned = plan_bake(source, weights, asked.dtype)
        shards = {
            file: {name: planned.tensors[name] for name in names}
            for file, names in by_file(planned, weights).items()
            if weights.layout.inside(file) == asked.file
        }
        write_shards(
            source,
            weights,
            shards,
            work,
            1,
            no_progress,
            partial(sync_folders, work) if asked.sync else lambda _: None,
            rounding,
            sync=asked.sync,
        )
    return DoneShard(asked.file, *rounding.sums)
