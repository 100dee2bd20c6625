"""The trials of a search: each candidate is merged and asked, here or on an executor, and kept in a study."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.errors import Conflict, ExecutorError, MergeError
from adaptkit.io.file_lock import exclusive_lock
from adaptkit.io.files import os_errors
from adaptkit.types.passwords import without_passwords
from adaptkit.workspace.tasks.run import open_executor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from adaptkit.bases.known import Base
    from adaptkit.evaluation.suites import Suite
    from adaptkit.extend import Executor
    from adaptkit.search.candidates import Candidate, SearchSpace
    from adaptkit.search.found import Found
    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context
    from adaptkit.workspace.tasks.search import Sources


@dataclass(frozen=True, slots=True)
class Asked:
    """What every candidate is asked, and how many of them."""

    versions: Sequence[Version]
    suites: Sequence[Suite]
    files: Sequence[Path]
    base: Base
    batch: int
    trials: int
    seed: int
    shared: bool


@dataclass(frozen=True, slots=True)
class Study:
    """A study: its name, what it is about, its file in this home, and where it is stored."""

    name: str
    question: str
    file: Path
    url: str
    shared: bool


def study_of(
    context: Context, name: str, study: str | None, storage: str | None, question: str
) -> Study:
    called = study or f"{name}-{question.partition(':')[2][:8]}"
    refs.check_name(called)
    file = context.home.path / "search" / f"{called}.db"
    return Study(called, question, file, storage or f"sqlite:///{file}", storage is not None)


def searched(
    context: Context,
    study: Study,
    asked: Asked,
    sources: Sources,
    space: SearchSpace,
    on: str | None,
) -> Found:
    """Go on with the study until it has as many trials as were asked for; what it found."""
    from adaptkit.search.found import Found
    from adaptkit.search.study import count_done, open_study, tried

    with (
        _alone(study),
        open_study(study.url, study.name, study.question, shared=study.shared) as opened,
    ):
        _try_all(
            context,
            opened,
            space,
            asked,
            sources,
            open_executor(context, on) if count_done(opened) < asked.trials else None,
        )
        return Found(
            study.name,
            without_passwords(study.url) if study.shared else str(study.file),
            sources.labels,
            tuple(one.name for one in asked.suites),
            tried(opened) if study.shared else tried(opened)[: asked.trials],
        )


@contextmanager
def _alone(study: Study) -> Iterator[None]:
    """Hold a study of this home; one in a storage of the team's is anyone's to join."""
    if study.shared:
        yield
        return
    with os_errors("write", study.file):
        study.file.parent.mkdir(parents=True, exist_ok=True)
    lock = study.file.with_suffix(".lock")
    taken = Conflict(
        f"the search '{study.name}' is running already",
        why=f"another process holds {lock}",
        fix="wait for it; or --storage URL, where many drivers share a study",
    )
    with exclusive_lock(lock, taken):
        yield


def _try_all(
    context: Context,
    study: Any,
    space: SearchSpace,
    asked: Asked,
    sources: Sources,
    executor: Executor | None,
) -> None:
    from adaptkit.search.found import skills_of
    from adaptkit.search.study import count_done, run_alone, run_shared

    left = asked.trials - count_done(study)
    if left <= 0:
        return
    if executor is not None and not executor.capabilities.shared_files and any(sources.moments):
        needy = [one.strategy for one in space.options if _needs_moments(context, one.strategy)]
        if needy:
            executor.shutdown()
            raise ExecutorError(
                f"cannot search with {', '.join(needy)} on these workers",
                why="they do not see the moments in the store of this home",
                fix="--on local, or --strategy linear",
            )
    block: AbstractContextManager[Any] = nullcontext() if executor is None else executor
    with context.watch("searching", left, "trials") as done, block:
        score_one = _scorer(context, asked, sources, executor)

        def score(
            candidates: Sequence[Candidate],
        ) -> Iterator[tuple[Mapping[str, float], float, int] | MergeError]:
            for result in score_one(candidates):
                if isinstance(result, MergeError):
                    yield result
                else:
                    figures, size = result
                    yield figures, skills_of(asked.suites, figures), size

        if asked.shared:
            workers = 1 if executor is None else executor.capabilities.workers
            run_shared(study, space, asked.trials, score, done, workers=workers)
        else:
            run_alone(study, space, asked.trials, asked.seed, score, done)


def _needs_moments(context: Context, strategy: str) -> bool:
    return context.plugins.strategy(strategy).needs == "moments"


def _scorer(
    context: Context, asked: Asked, sources: Sources, executor: Executor | None
) -> Callable[[Sequence[Candidate]], Iterator[tuple[Mapping[str, float], int] | MergeError]]:
    from adaptkit.workspace.tasks.search import try_here, try_on

    if executor is not None:
        wanted = [suite.digest for suite in asked.suites]
        return try_on(executor, sources, asked.base, asked.files, wanted, batch=asked.batch)
    from adaptkit.evaluation.speaker import Speaker

    assert asked.base.folder is not None
    speaker = Speaker(asked.base.folder, batch=asked.batch)

    def one_by_one(
        candidates: Sequence[Candidate],
    ) -> Iterator[tuple[Mapping[str, float], int] | MergeError]:
        for candidate in candidates:
            try:
                yield try_here(context.plugins, speaker, sources, asked.suites, candidate)
            except MergeError as error:
                yield error

    return one_by_one
