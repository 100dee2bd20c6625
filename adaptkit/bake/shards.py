"""Writing the weight files of a baked model: several at a time, each on disk beside the work on the next."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice, zip_longest
from typing import TYPE_CHECKING

import numpy as np

from adaptkit.bake.apply import Rounding, new_values
from adaptkit.io.files import os_errors
from adaptkit.io.machine.parallel import module_pool
from adaptkit.io.safetensors.reader import size_of
from adaptkit.io.safetensors.writer import TensorWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from adaptkit.adapters.fitting.changes import Tensor
    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bases.weights import BaseWeights

    Shards = Mapping[Path, Mapping[str, Tensor]]
    """The tensors of each weight file of the result, by the base's file of that name."""


def write_shards(
    source: OpenAdapter,
    weights: BaseWeights,
    shards: Shards,
    work: Path,
    workers: int,
    done: Callable[[int], None],
    note: Callable[[Sequence[str]], None],
    rounding: Rounding,
    *,
    sync: bool,
) -> None:
    """Write the files, several tensors at once, and sync each beside the work on the next.

    `note` gets the names of each group of files whose bytes are on disk; their folders are not synced yet.
    """

    def make(writer: TensorWriter, name: str, tensor: Tensor) -> int:
        place = weights.location(tensor.source) if tensor.source else None
        if place and not tensor.changed and tensor.dtype == place.entry.dtype:
            writer.copy(weights.layout.stored(name), place.file, place.entry.begin)
        else:
            with writer.pieces(weights.layout.stored(name)) as put:
                for block in new_values(source, weights, name, tensor, rounding):
                    put(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
            if tensor.source:
                weights.drop_pages(tensor.source)
        return size_of(tensor.dtype, tensor.shape)

    def finish(
        writers: Mapping[Path, TensorWriter], tensors: Mapping[Path, Sequence[Future[int]]]
    ) -> None:
        for file, writer in writers.items():
            for tensor in tensors[file]:
                done(tensor.result())
            writer.commit(sync=sync, sync_folder=False)
        note([weights.layout.inside(file) for file in writers])

    with ExitStack() as stack:
        last = ThreadPoolExecutor(1)
        stack.callback(last.shutdown, cancel_futures=True)
        pool = stack.enter_context(module_pool(workers))
        before: Future[None] | None = None
        for group in _groups(shards, workers):
            writers = {
                file: stack.enter_context(_writer(weights, file, shards[file], work))
                for file in group
            }
            tensors: dict[Path, list[Future[int]]] = {file: [] for file in group}
            for file, name in _turns({file: shards[file] for file in group}):
                tensors[file].append(pool.submit(make, writers[file], name, shards[file][name]))
            if before is not None:  # it is on disk before the next group but one is begun
                before.result()
            before = last.submit(finish, writers, tensors)
        if before is not None:
            before.result()


def _groups(files: Iterable[Path], count: int) -> Iterator[list[Path]]:
    """As many files at a time as there are workers: a file takes one write at a time."""
    rest = iter(files)
    while group := list(islice(rest, count)):
        yield group


def _turns(shards: Shards) -> Iterator[tuple[Path, str]]:
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
    path = work / weights.layout.inside(file)
    with os_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return TensorWriter(path, layout, like=file if same else None)
