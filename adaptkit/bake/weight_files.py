"""The weight files of one bake: which of them are missing, and writing those here or in other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptkit.bake.apply import Rounding
from adaptkit.bake.plan import by_file
from adaptkit.bake.shards import write_shards
from adaptkit.io.safetensors.reader import size_of

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bake.plan import BakePlan
    from adaptkit.bake.work_folder import WorkFolder
    from adaptkit.bases.weights import BaseWeights


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


class WeightFiles:
    """What a bake writes besides small files. `sizes` are the bytes of their tensors, by the name in the folder."""

    def __init__(
        self,
        source: OpenAdapter,
        weights: BaseWeights,
        planned: BakePlan,
        work: WorkFolder,
        dtype: str | None,
        done: Callable[[int], None],
    ) -> None:
        self._source, self._weights, self._planned = source, weights, planned
        self._work, self._dtype, self._done = work, dtype, done
        self.rounding = Rounding()
        self._files = {
            file: {name: planned.tensors[name] for name in names}
            for file, names in by_file(planned, weights).items()
        }
        self.sizes = {
            self._name(file): sum(size_of(t.dtype, t.shape) for t in tensors.values())
            for file, tensors in self._files.items()
        }

    def _name(self, file: Path) -> str:
        return self._weights.layout.inside(file)

    def skip_finished(self) -> int:
        """Leave out the files of an earlier run; returns how many there are."""
        finished = set(self._work.finished)
        if finished:
            self._done(sum(size for name, size in self.sizes.items() if name in finished))
        self._files = {
            file: plan for file, plan in self._files.items() if self._name(file) not in finished
        }
        return len(finished)

    def write_here(self, workers: int) -> None:
        """Write the missing files on threads of this process."""
        write_shards(
            self._source,
            self._weights,
            self._files,
            self._work.path,
            workers,
            self._done,
            self._work.note,
            self.rounding,
            sync=self._work.sync,
        )

    def write_elsewhere(self, elsewhere: Elsewhere) -> None:
        """Have other processes write the missing files, and note each as it is finished."""
        names = tuple(map(self._name, self._files))
        if not names:
            return
        work = self._work
        for shard in elsewhere(Asked(work.path, work.key, names, self._dtype, work.sync)):
            self.rounding.add(shard.lost, shard.whole)
            self._done(self.sizes[shard.file])
            work.note([shard.file])
