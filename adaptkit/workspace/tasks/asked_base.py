"""The base that a task is about: where it is, and what it must measure as on the worker."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from adaptkit.bases.identity import LEVELS, measure
from adaptkit.errors import BadBase, BaseMismatch
from adaptkit.evaluation.speaker import Speaker
from adaptkit.workspace.tasks.supply import cache_folder

if TYPE_CHECKING:
    from adaptkit.bases.known import Base
    from adaptkit.extend import Executor


@dataclass(frozen=True, slots=True)
class AskedBase:
    """A folder, and the levels that a model there must have: they travel with each task."""

    folder: str
    name: str
    levels: tuple[str, ...]
    cache: str = ""
    """What the driver remembers of files that its workers see too; without it, a worker remembers its own."""

    @classmethod
    def of(cls, base: Base, executor: Executor) -> Self:
        """The base at hand, for the workers of an executor."""
        assert base.folder is not None
        shared = base.cache is not None and executor.capabilities.shared_files
        return cls(
            str(base.folder.absolute()),
            base.identity.name or base.folder.name,
            tuple(level.value for level in base.identity.levels),
            str(base.cache) if shared else "",
        )

    def check(self) -> None:
        """Measure the folder on this worker; `BaseMismatch` names both where it holds another model.

        Headers first, which cost next to nothing; then every tensor's bytes, or where no tensors are known the files.
        """
        folder = Path(self.folder)
        if not folder.is_dir():
            raise BadBase(
                f"the base {folder} is not on this worker",
                why="there is no such folder",
                fix="put it at the same path on every worker, or use a file system that they share",
            )
        wanted = {value.partition(":")[0]: value for value in self.levels}
        deepest = "tm1" if "tm1" in wanted else "fs1"  # other shards may hold the same tensors
        cache = Path(self.cache) if self.cache else cache_folder() / "bases"
        for level in (one for one in LEVELS if one in wanted and one in {"as1", deepest}):
            found = measure(folder, (level,), cache).level(level)
            here = found.value if found else "nothing"
            if here != wanted[level]:
                raise BaseMismatch(
                    f"the base {folder} on the worker {platform.node()} is not {self.name}",
                    why=f"{self.name} is {_short(wanted[level])}, there it measures {_short(here)}",
                    fix="put the same model at that path on every worker",
                )


@lru_cache(maxsize=1)
def speaker_of(base: AskedBase, batch: int) -> Speaker:
    """The base, measured once, which then stays in a worker's memory from task to task."""
    base.check()
    return Speaker(Path(base.folder), batch=batch)


def _short(level: str) -> str:
    return f"{level[:16]}…" if len(level) > 16 else level
