"""Merge one candidate and score it, in this process or on a worker."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.errors import MergeError, Unmergeable
from adaptkit.evaluation.run import score_all
from adaptkit.extend.artifact_files import WEIGHTS
from adaptkit.merge.moments import Moments
from adaptkit.merge.recipe import Choices, resolve
from adaptkit.merge.run import run
from adaptkit.types import Parent
from adaptkit.workspace.tasks.asked_base import AskedBase, speaker_of
from adaptkit.workspace.tasks.evaluate import same_suites
from adaptkit.workspace.tasks.supply import Supply, plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from adaptkit.bases.known import Base
    from adaptkit.evaluation.speaker import Speaker
    from adaptkit.evaluation.suites import Suite
    from adaptkit.extend import Executor
    from adaptkit.plugin.manager import Plugins
    from adaptkit.search.candidates import Candidate


@dataclass(frozen=True, slots=True)
class Sources:
    """The adapters of a search: digests, labels and the folders of their moments (None: not measured)."""

    supply: Supply
    digests: tuple[str, ...]
    labels: tuple[str, ...]
    moments: tuple[str | None, ...]
    seed: int = 0
    dtype: str | None = None
    extras: str | None = None


def try_here(
    known: Plugins,
    speaker: Speaker,
    sources: Sources,
    suites: Sequence[Suite],
    candidate: Candidate,
) -> tuple[dict[str, float], int]:
    """The figures of one candidate, and the bytes of its weights."""
    strategy: Any = known.strategy(candidate.strategy)
    parents = [
        Parent(digest, weight, "merged", label)
        for digest, label, weight in zip(
            sources.digests, sources.labels, candidate.weights, strict=True
        )
    ]
    choices = Choices(
        space=candidate.space,
        params=candidate.params,
        rank=candidate.rank,
        seed=sources.seed,
        dtype=sources.dtype,
        extras=sources.extras,
    )
    recipe = resolve(strategy, parents, [{} for _ in parents], choices)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adaptkit-search-")))
        opened = []
        for digest, label in zip(sources.digests, sources.labels, strict=True):
            adapter = stack.enter_context(Adapter.open(sources.supply.bring(digest), label))
            opened.append(OpenAdapter(adapter, known.method_for(adapter), digest))
        if strategy.needs == "moments":
            measured = [
                stack.enter_context(_moments(folder, one))
                for folder, one in zip(sources.moments, opened, strict=True)
            ]
            recipe = replace(recipe, moments=tuple(one.id for one in measured))
            opened = [replace(one, moment=of.of) for one, of in zip(opened, measured, strict=True)]
        made = work / "merged"
        made.mkdir()
        run(recipe, strategy, opened, made, method=known.packing_method(), workers=1)
        figures = score_all(speaker, {"merged": made}, suites, lambda _: None)["merged"]
        return figures, (made / WEIGHTS).stat().st_size


def _moments(folder: str | None, source: OpenAdapter) -> Moments:
    if folder is None or not Path(folder).is_dir():
        raise Unmergeable(
            f"the moments of {source.label} are not on this worker",
            why="they are kept in the store of the home that searches",
            fix="--on local, or a file system that workers share",
        )
    return Moments.open(Path(folder), source.digest, source.label)


def try_on(
    executor: Executor,
    sources: Sources,
    base: Base,
    files: Sequence[Path],
    wanted: Sequence[str],
    *,
    batch: int,
) -> Callable[[Sequence[Candidate]], Iterator[tuple[Mapping[str, float], int] | MergeError]]:
    """Candidates, each a task of the executor; results in order, a merge that cannot be made as its error."""
    paths = tuple(str(path.absolute()) for path in files)
    asked = AskedBase.of(base, executor)

    def score(
        candidates: Sequence[Candidate],
    ) -> Iterator[tuple[Mapping[str, float], int] | MergeError]:
        futures = [
            executor.submit(try_one, sources, asked, paths, tuple(wanted), batch, candidate)
            for candidate in candidates
        ]
        try:
            for future in futures:
                try:
                    yield future.result()
                except MergeError as error:
                    yield error
        finally:
            for future in futures:
                future.cancel()

    return score


def try_one(
    sources: Sources,
    base: AskedBase,
    files: Sequence[str],
    wanted: Sequence[str],
    batch: int,
    candidate: Candidate,
) -> tuple[dict[str, float], int]:
    """On a worker: one candidate, scored on the very suites that were asked for."""
    suites = same_suites(files, wanted, "a candidate")
    return try_here(plugins(), speaker_of(base, batch), sources, suites, candidate)
