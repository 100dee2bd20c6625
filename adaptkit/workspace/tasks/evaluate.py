"""Score adapters on workers: one task is one adapter (or the base alone) on every suite."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.errors import BadBase, BadData
from adaptkit.evaluation.run import score_all
from adaptkit.evaluation.speaker import Speaker
from adaptkit.evaluation.suites import read_suites
from adaptkit.workspace.tasks.run import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adaptkit.evaluation.suites import Suite
    from adaptkit.extend import Executor
    from adaptkit.workspace.tasks.supply import Supply


def score_on(
    executor: Executor,
    supply: Supply,
    base: Path,
    adapters: Mapping[str, str | None],
    files: Sequence[Path],
    suites: Sequence[Suite],
    *,
    batch: int,
    done: Callable[[int], None],
) -> dict[str, dict[str, float]]:
    """The figure of every adapter (label and digest; None is the base alone) on every suite."""
    rows = sum(suite.size for suite in suites)
    wanted = tuple(suite.digest for suite in suites)
    paths = tuple(str(path.absolute()) for path in files)
    tasks = [
        (supply, str(base.absolute()), label, digest, paths, wanted, batch)
        for label, digest in adapters.items()
    ]
    found = in_order(executor, score_one, tasks, lambda _: done(rows))
    return dict(zip(adapters, found, strict=True))


def score_one(
    supply: Supply,
    base: str,
    label: str,
    digest: str | None,
    files: Sequence[str],
    wanted: Sequence[str],
    batch: int,
) -> dict[str, float]:
    """On a worker: one adapter's figure on each suite, which must be the very suites that were asked for."""
    suites = same_suites(files, wanted, label)
    path = None if digest is None else supply.bring(digest)
    return score_all(speaker_of(base, batch), {label: path}, suites, lambda _: None)[label]


def same_suites(files: Sequence[str], wanted: Sequence[str], label: str) -> tuple[Suite, ...]:
    """The suites of files on a worker; `BadData` where they are not those of these digests."""
    suites = read_suites([Path(file) for file in files])
    if tuple(suite.digest for suite in suites) != tuple(wanted):
        raise BadData(
            f"the suites on this worker are not those that {label} is asked on",
            why=f"{', '.join(files)} hold other rows here",
            fix="put them where every worker sees the same files",
        )
    return suites


@lru_cache(maxsize=1)
def speaker_of(base: str, batch: int) -> Speaker:
    """The base, which stays in a worker's memory from task to task."""
    if not Path(base).is_dir():
        raise BadBase(
            f"the base {base} is not on this worker",
            why="there is no such folder",
            fix="put it at the same path on every worker, or use a file system that they share",
        )
    return Speaker(Path(base), batch=batch)
