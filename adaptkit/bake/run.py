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

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptkit.bake.companions import carry_along
from adaptkit.bake.plan import plan_bake
from adaptkit.bake.weight_files import WeightFiles
from adaptkit.bake.work_folder import WorkFolder
from adaptkit.bake.written import check_written
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import BakeError
from adaptkit.io.machine.hardware import cores
from adaptkit.io.staging import empty_target
from adaptkit.types import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bake.weight_files import Elsewhere


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
    have a name and no bytes. `elsewhere` writes the shards in other processes; where it is None, threads do. `cache` is
    a folder where what the model's class says is remembered.
    """
    target = empty_target(out)
    with BaseWeights.open(base, cache) as weights:
        source.adapter.attach_base(weights)
        planned = plan_bake(source, weights, dtype)
        work = WorkFolder.open(target, _key(source, weights, dtype), clean=clean, sync=sync)
        files = WeightFiles(source, weights, planned, work, dtype, done)
        resumed = files.skip_finished()
        if elsewhere is None:
            files.write_here(workers or cores())
        else:
            files.write_elsewhere(elsewhere)
        carry_along(source.adapter.path, weights.layout, planned, work.path, dtype, sync=sync)
        try:
            check_written(weights, planned, work.path)
        except BakeError:  # the same bake would end here again
            work.drop()
            raise
    if check is not None:
        try:
            check(work.path)
        except Exception:
            work.set_aside()
            raise
    work.give_name()
    return BakeReport(
        target,
        tuple(sorted(name for name, tensor in planned.tensors.items() if tensor.changed)),
        tuple(files.sizes),
        sum(files.sizes.values()),
        dtype or "as the base",
        resumed,
        tuple(planned.remarks),
        planned.architecture.name,
        planned.architecture.unknown,
        files.rounding.lost,
    )


def _key(source: OpenAdapter, weights: BaseWeights, dtype: str | None) -> str:
    """What a bake is of: one that was interrupted goes on only with the same adapter, base and dtype."""
    files = [(weights.layout.inside(file), file.stat()) for file in weights.layout.files]
    return digest_of(
        {
            "adapter": source.digest,
            "base": [[name, found.st_size, found.st_mtime_ns] for name, found in files],
            "dtype": dtype,
        }
    )
