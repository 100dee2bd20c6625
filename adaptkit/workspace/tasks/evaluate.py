"""Score adapters on workers: one task is one adapter (or the base alone) on every suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.errors import BadData
from adaptkit.evaluation.run import score_all
from adaptkit.evaluation.suites import read_suites
from adaptkit.workspace.tasks.asked_base import AskedBase, speaker_of
from adaptkit.workspace.tasks.run import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adaptkit.bases.known import Base
    from adaptkit.evaluation.suites import Suite
    from adaptkit.extend import Executor
    from adaptkit.workspace.tasks.supply import Supply


def score_on(
    executor: Executor,
    supply: Supply,
    base: Base,
    adapters: Mapping[str, str | None],
    files: Sequence[Path],
    suites: Sequence[Suite],
    *,
    batch: int,
    done: Callable[[int], None],
    scored: Callable[[str, Mapping[str, float]], None],
) -> None:
    """Have the figures of every adapter (label and digest; None is the base alone) `scored`, in their order."""
    rows = sum(suite.size for suite in suites)
    wanted = tuple(suite.digest for suite in suites)
    paths = tuple(str(path.absolute()) for path in files)
    asked = AskedBase.of(base, executor)
    tasks = [
        (supply, asked, label, digest, paths, wanted, batch) for label, digest in adapters.items()
    ]
    found = in_order(executor, score_one, tasks, lambda _: done(rows))
    for label, figures in zip(adapters, found, strict=True):
        scored(label, figures)


def score_one(
    supply: Supply,
    base: AskedBase,
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
