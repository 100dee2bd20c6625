"""An adapter into full weights: one tensor at a time, a block of rows at a time, whole or not at all.

Notable choices:
- every shard is written once: bytes that do not change go from file to file, rows that do are widened,
  updated and rounded once (float32 for 16-bit weights, float64 for 32-bit ones)
- the result is opened as its reader will, on no device, before it gets its name
- a shard whose tensors keep their names, shapes and dtypes keeps its header byte for byte
- work is done in `OUT.partial/` with a journal of finished shards until one rename: OUT never exists half made,
  and the same bake again goes on where it stopped
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.bake.apply import Rounding
from adaptkit.bake.companions import carry_along
from adaptkit.bake.plan import by_file, plan_bake
from adaptkit.bake.shards import write_shards
from adaptkit.bake.written import check_written
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import BakeError, Refused
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.machine.hardware import cores
from adaptkit.io.safetensors.reader import size_of
from adaptkit.io.staging import empty_target, rename_into
from adaptkit.types import digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.adapters.opened import OpenAdapter

JOURNAL = "adaptkit-bake.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """The weight files that a bake lacks, and the folder that it is made in."""

    work: Path
    key: str
    """Of adapter, base and dtype; the folder's journal has it too."""
    files: tuple[str, ...]
    dtype: str | None
    sync: bool


@dataclass(frozen=True, slots=True)
class DoneShard:
    """A weight file that is in its place, and the squares that `Rounding` sums up."""

    file: str
    lost: float
    whole: float


Elsewhere = Callable[[Asked], Iterator[DoneShard]]
"""Writes every file that is asked for, in any order, in processes that are not this one."""


@dataclass(frozen=True, slots=True)
class BakeReport:
    """What was baked: tensors that changed, files written, and remarks for the reader.

    `model_class` is the class that loads it; where it is not known, `unchecked` says why and the result was not opened
    by its names. `rounding` is what the stored dtype left out of the update, relative to it; None where nothing was
    computed.
    """

    out: Path
    changed: tuple[str, ...]
    files: tuple[str, ...]
    nbytes: int
    dtype: str
    resumed: int
    remarks: tuple[str, ...]
    model_class: str = ""
    unchecked: str = ""
    rounding: float | None = None


def run(
    source: OpenAdapter,
    base: Path,
    out: Path,
    *,
    dtype: str | None = None,
    clean: bool = False,
    workers: int | None = None,
    sync: bool = True,
    elsewhere: Elsewhere | None = None,
    cache: Path | None = None,
    done: Callable[[int], None] = lambda count: None,
    check: Callable[[Path], None] | None = None,
) -> BakeReport:
    """Write the base with one adapter in it into `out`; `done` gets the bytes of each finished tensor.

    `check` looks at the finished folder before it gets its name; when it raises, the folder becomes OUT.failed.

    Without `sync` nothing waits for the disk; shards are then not noted as finished, because after a power cut one may
    have a name and no bytes. `elsewhere` writes the shards in other processes; where it is None, threads do. `cache` is a folder where what the model's class says is remembered.
    """
    target = empty_target(out)
    rounding = Rounding()
    with BaseWeights.open(base, cache) as weights:
        source.adapter.attach_base(weights)
        planned = plan_bake(source, weights, dtype)
        plan = planned.tensors
        work = target.with_name(target.name + ".partial")
        shards = by_file(planned, weights)
        key = digest_of(
            {
                "adapter": source.digest,
                "base": [
                    [weights.layout.inside(f), f.stat().st_size, f.stat().st_mtime_ns]
                    for f in weights.layout.files
                ],
                "dtype": dtype,
            }
        )
        finished = open_work(work, key, clean=clean, sync=sync)
        resumed = len(finished)
        missing = {
            file: {name: plan[name] for name in names}
            for file, names in shards.items()
            if weights.layout.inside(file) not in finished
        }
        sizes = {
            weights.layout.inside(file): sum(
                size_of(plan[name].dtype, plan[name].shape) for name in names
            )
            for file, names in shards.items()
        }
        if finished:
            done(sum(size for name, size in sizes.items() if name in finished))

        def note(name: str) -> None:
            if not sync:
                return
            finished.append(name)
            atomic_write(work / JOURNAL, json.dumps({"key": key, "finished": finished}).encode())

        if elsewhere is None:
            write_shards(
                source, weights, missing, work, workers or cores(), done, note, rounding, sync=sync
            )
        elif missing:
            names = tuple(weights.layout.inside(file) for file in missing)
            for shard in elsewhere(Asked(work, key, names, dtype, sync)):
                rounding.add(shard.lost, shard.whole)
                done(sizes[shard.file])
                note(shard.file)
        carry_along(source.adapter.path, weights.layout, planned, work, dtype, sync=sync)
        try:
            check_written(weights, planned, work)
        except BakeError:  # the same bake would end here again
            shutil.rmtree(work, ignore_errors=True)
            raise
    if check is not None:
        try:
            check(work)
        except Exception:
            _set_aside(work, failed_name(target))
            raise
    with os_errors("write", target):
        (work / JOURNAL).unlink()
        for left in work.rglob(".*.tmp"):  # of workers that were killed
            left.unlink()
        if target.is_dir():
            target.rmdir()
    rename_into(work, target, sync=sync)
    changed = tuple(sorted(name for name, tensor in plan.items() if tensor.changed))
    nbytes = sum(size_of(t.dtype, t.shape) for t in plan.values())
    return BakeReport(
        target,
        changed,
        tuple(sizes),
        nbytes,
        dtype or "as the base",
        resumed,
        tuple(planned.remarks),
        planned.architecture.name,
        planned.architecture.unknown,
        rounding.lost,
    )


def failed_name(out: Path) -> Path:
    """Where a model goes that did not pass its check."""
    return out.with_name(f"{out.name}.failed")


def _set_aside(work: Path, failed: Path) -> None:
    with os_errors("write", failed):
        shutil.rmtree(failed, ignore_errors=True)
        (work / JOURNAL).unlink()
        work.rename(failed)


def open_work(work: Path, key: str, *, clean: bool, sync: bool) -> list[str]:
    """The folder of a bake, and the shards in it that are finished already."""
    with os_errors("write", work):
        if clean:
            shutil.rmtree(work, ignore_errors=True)
        if work.exists():
            journal = read_journal(work)
            if journal.get("key") != key and (journal or any(work.iterdir())):
                raise Refused(
                    f"{work} is left of another bake",
                    why="the adapter, the base or the dtype was another",
                    fix="--clean drops it and begins anew",
                )
            return [str(name) for name in journal.get("finished", ())]
        work.mkdir(parents=True)
        atomic_write(work / JOURNAL, json.dumps({"key": key, "finished": []}).encode(), sync=sync)
    return []


def read_journal(work: Path) -> dict[str, Any]:
    """The journal of a bake in progress: its `key`, and which files are `finished`; empty where there is none."""
    try:
        journal = json.loads((work / JOURNAL).read_bytes())
    except (OSError, ValueError):
        return {}
    return journal if isinstance(journal, dict) else {}
