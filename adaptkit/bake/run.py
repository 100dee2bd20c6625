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
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import TYPE_CHECKING

import numpy as np

from adaptkit.adapters.fit import unopenable
from adaptkit.bake.apply import Rounding, new_values
from adaptkit.bake.companions import carry_along
from adaptkit.bake.plan import by_file, plan_bake
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import BakeError, Refused
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.machine.hardware import cores
from adaptkit.io.machine.parallel import module_pool
from adaptkit.io.safetensors.reader import size_of
from adaptkit.io.safetensors.writer import TensorWriter
from adaptkit.io.staging import empty_target, rename_into
from adaptkit.types import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from adaptkit.adapters.changes import Tensor
    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bake.plan import BakePlan
    from adaptkit.bases.checkpoint import TensorLocation

JOURNAL = "adaptkit-bake.json"


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
    cache: Path | None = None,
    done: Callable[[int], None] = lambda count: None,
    check: Callable[[Path], None] | None = None,
) -> BakeReport:
    """Write the base with one adapter in it into `out`; `done` gets the bytes of each finished tensor.

    `check` looks at the finished folder before it gets its name; when it raises, the folder becomes OUT.failed.

    Without `sync` nothing waits for the disk; shards are then not noted as finished, because after a power cut one may
    have a name and no bytes. `cache` is a folder where what the model's class says is remembered.
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
                    [_inside(weights, f), f.stat().st_size, f.stat().st_mtime_ns]
                    for f in weights.layout.files
                ],
                "dtype": dtype,
            }
        )
        finished = _open_work(work, key, clean=clean)
        resumed = len(finished)
        missing = {
            file: {name: plan[name] for name in names}
            for file, names in shards.items()
            if _inside(weights, file) not in finished
        }
        if finished:
            done(
                sum(
                    size_of(plan[n].dtype, plan[n].shape)
                    for file in shards.keys() - missing.keys()
                    for n in shards[file]
                )
            )

        def note(file: Path) -> None:
            if not sync:
                return
            finished.append(_inside(weights, file))
            atomic_write(work / JOURNAL, json.dumps({"key": key, "finished": finished}).encode())

        _write_shards(
            source, weights, missing, work, workers or cores(), done, note, rounding, sync=sync
        )
        carry_along(source.adapter.path, weights.layout, planned, work, dtype, sync=sync)
        try:
            _check(weights, planned, work)
        except BakeError:  # the same bake would end here again
            shutil.rmtree(work, ignore_errors=True)
            raise
    if check is not None:
        try:
            check(work)
        except Exception:
            _set_aside(work, failed_name(target))
            raise
    (work / JOURNAL).unlink()
    with os_errors("write", target):
        if target.is_dir():
            target.rmdir()
    rename_into(work, target)
    changed = tuple(sorted(name for name, tensor in plan.items() if tensor.changed))
    nbytes = sum(size_of(t.dtype, t.shape) for t in plan.values())
    return BakeReport(
        target,
        changed,
        tuple(file.relative_to(base).as_posix() for file in shards),
        nbytes,
        dtype or "as the base",
        resumed,
        tuple(planned.remarks),
        planned.architecture.name,
        planned.architecture.unknown,
        rounding.lost,
    )


def _inside(weights: BaseWeights, file: Path) -> str:
    """Where a file is in the base's folder: of a pipeline in that of a component."""
    return file.relative_to(weights.layout.directory).as_posix()


def failed_name(out: Path) -> Path:
    """Where a model goes that did not pass its check."""
    return out.with_name(f"{out.name}.failed")


# ---------------------------------------------------------------- doing it


def _set_aside(work: Path, failed: Path) -> None:
    with os_errors("write", failed):
        shutil.rmtree(failed, ignore_errors=True)
        (work / JOURNAL).unlink()
        work.rename(failed)


def _open_work(work: Path, key: str, *, clean: bool) -> list[str]:
    """The folder of a bake, and the shards in it that are finished already."""
    with os_errors("write", work):
        if clean:
            shutil.rmtree(work, ignore_errors=True)
        if work.exists():
            try:
                journal = json.loads((work / JOURNAL).read_bytes())
                known = journal["key"] == key
            except (OSError, ValueError, KeyError, TypeError):
                journal, known = {}, not any(work.iterdir())
            if not known:
                raise Refused(
                    f"{work} is left of another bake",
                    why="the adapter, the base or the dtype was another",
                    fix="--clean drops it and begins anew",
                )
            return [str(name) for name in journal.get("finished", ())]
        work.mkdir(parents=True)
        atomic_write(work / JOURNAL, json.dumps({"key": key, "finished": []}).encode())
    return []


def _write_shards(
    source: OpenAdapter,
    weights: BaseWeights,
    shards: Mapping[Path, Mapping[str, Tensor]],
    work: Path,
    workers: int,
    done: Callable[[int], None],
    note: Callable[[Path], None],
    rounding: Rounding,
    *,
    sync: bool,
) -> None:
    """Write the files, several tensors at once, and sync each beside the work on the next; `note` gets what is on disk."""

    def make(writer: TensorWriter, name: str, tensor: Tensor) -> int:
        place = _entry(weights, tensor.source) if tensor.source else None
        if place and not tensor.changed and tensor.dtype == place.entry.dtype:
            writer.copy(weights.layout.stored(name), place.file, place.entry.begin)
        else:
            with writer.pieces(weights.layout.stored(name)) as put:
                for block in new_values(source, weights, name, tensor, rounding):
                    put(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
            if tensor.source:
                weights.drop_pages(tensor.source)
        return size_of(tensor.dtype, tensor.shape)

    def finish(file: Path, writer: TensorWriter, tensors: Sequence[Future[int]]) -> None:
        for tensor in tensors:
            done(tensor.result())
        writer.commit(sync=sync)
        note(file)

    with ExitStack() as stack:
        last = ThreadPoolExecutor(1)
        stack.callback(last.shutdown, cancel_futures=True)
        pool = stack.enter_context(module_pool(workers))
        finishing: list[Future[None]] = []
        for group in _groups(shards, workers):
            writers = {
                file: stack.enter_context(_writer(weights, file, shards[file], work))
                for file in group
            }
            tensors: dict[Path, list[Future[int]]] = {file: [] for file in group}
            for file, name in _turns({file: shards[file] for file in group}):
                tensors[file].append(pool.submit(make, writers[file], name, shards[file][name]))
            for (
                finished
            ) in finishing:  # the group before is on disk before the next but one is begun
                finished.result()
            finishing = [last.submit(finish, file, writers[file], tensors[file]) for file in group]
        for finished in finishing:
            finished.result()


def _groups(files: Iterable[Path], count: int) -> Iterator[list[Path]]:
    """As many files at a time as there are workers: a file takes one write at a time."""
    rest = iter(files)
    while group := list(islice(rest, count)):
        yield group


def _turns(shards: Mapping[Path, Mapping[str, Tensor]]) -> Iterator[tuple[Path, str]]:
    """Every tensor of the files, one of each file in turn, the largest first."""
    largest_first = [
        [
            (file, name)
            for name in sorted(plan, key=lambda n: -size_of(plan[n].dtype, plan[n].shape))
        ]
        for file in shards
        for plan in [shards[file]]
    ]
    for turn in zip_longest(*largest_first):
        yield from filter(None, turn)


def _writer(
    weights: BaseWeights, file: Path, plan: Mapping[str, Tensor], work: Path
) -> TensorWriter:
    """The writer of one file, with the base's own header where nothing in it changes."""
    assert weights.layout.tensors is not None
    before = {
        name: place.entry for name, place in weights.layout.tensors.items() if place.file == file
    }
    same = before.keys() == plan.keys() and all(
        (e.dtype, e.shape) == (plan[n].dtype, plan[n].shape) for n, e in before.items()
    )
    layout = {weights.layout.stored(name): (t.dtype, t.shape) for name, t in plan.items()}
    path = work / _inside(weights, file)
    with os_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return TensorWriter(path, layout, like=file if same else None)


def _entry(weights: BaseWeights, name: str) -> TensorLocation:
    assert weights.layout.tensors is not None
    return weights.layout.tensors[name]


def _check(weights: BaseWeights, planned: BakePlan, work: Path) -> None:
    """Open what was written as its reader will: the class's names and shapes, and untouched tensors byte for byte."""
    plan = planned.tensors
    with BaseWeights.open(work) as written:
        written.cache = weights.cache
        after = written.architecture()
        if wrong_names := unopenable(after, planned.before, plan):
            raise BakeError(
                f"{after.name} could not load what was written to {work}",
                why="; ".join(wrong_names[:4]),
                fix="please report this with the adapter's config",
            )
        found = {
            name: (place.entry.dtype, place.entry.shape)
            for name, place in (written.layout.tensors or {}).items()
        }
        wrong = defaultdict(list)
        if found != {name: (tensor.dtype, tensor.shape) for name, tensor in plan.items()}:
            wrong["names, shapes or dtypes"] = sorted(found.keys() ^ plan.keys()) or ["some tensor"]
        for name, tensor in plan.items():
            if (
                tensor.source
                and not tensor.changed
                and tensor.dtype == _entry(weights, tensor.source).entry.dtype
                and written.raw(name) != weights.raw(tensor.source)
            ):
                wrong["untouched tensors"].append(name)
            written.drop_pages(name)
            if tensor.source:
                weights.drop_pages(tensor.source)
    if wrong:
        raise BakeError(
            f"what was written to {work} is not what was meant",
            why=str(dict(wrong)),
            fix="check the disk, then bake again with --clean",
        )
