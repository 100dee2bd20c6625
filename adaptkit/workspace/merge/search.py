"""Search for the best merge of adapters, and register it with the study that found it."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.errors import BadRecipe, Conflict, ExecutorError, MergeError
from adaptkit.evaluation.suites import read_suites
from adaptkit.io.file_lock import exclusive_lock
from adaptkit.io.files import os_errors
from adaptkit.io.safe_paths import user_path
from adaptkit.types import digest_of
from adaptkit.workspace.context.executor import executor_url
from adaptkit.workspace.context.moments import kept_moments
from adaptkit.workspace.lookup.artifacts import find_version, verified_tree
from adaptkit.workspace.merge.merge import merge
from adaptkit.workspace.merge.search_space import search_space
from adaptkit.workspace.results import names
from adaptkit.workspace.tasks.run import open_executor
from adaptkit.workspace.tasks.supply import Supply
from adaptkit.workspace.train.evaluate import base_at_hand, check_base

if TYPE_CHECKING:
    import os
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
class Searched:
    """A finished search, and the version that its winner became (None: it was not to be registered)."""

    found: Found
    version: Version | None
    created: bool

    def to_json(self) -> dict[str, Any]:
        registered = self.version and {
            **names(self.version),
            "digest": self.version.digest,
            "created": self.created,
        }
        return {**self.found.to_json(), "registered": registered}


def search(
    context: Context,
    adapters: Sequence[str],
    suites: Sequence[str | os.PathLike[str]],
    *,
    base: str,
    name: str,
    trials: int = 40,
    strategies: Sequence[str] = (),
    spaces: Sequence[str] = (),
    ranks: Sequence[int] = (),
    weights: tuple[float, float] = (0.2, 1.2),
    params: Mapping[str, str] | None = None,
    study: str | None = None,
    storage: str | None = None,
    seed: int = 0,
    dtype: str | None = None,
    extras: str | None = None,
    batch: int = 16,
    on: str | None = None,
    dry_run: bool = False,
    message: str = "",
    alias: str | None = None,
    force: bool = False,
) -> Searched:
    """Try `trials` merges of registered adapters on suites; the winner becomes the next version of `name`.

    Without `strategies`, the exact sum is tried, and what uses moments where every adapter has them; `any` stands for
    every strategy that takes these adapters. `params` fixes a parameter (`"0.5"`) or narrows it (`"0.2:0.8"`). A study
    of the same name that asks the same goes on where it ended; `storage` is an SQLAlchemy URL where many drivers work
    on one study. With `dry_run` nothing is registered.
    """
    from adaptkit.search.found import Found
    from adaptkit.search.study import count_done, open_study, shown, tried

    on = executor_url(context, on)
    refs.check_name(name)
    files = [user_path(path) for path in suites]
    read = read_suites(files)
    versions = _versions(context, adapters)
    if trials < 1 or not read:
        raise BadRecipe(
            f"cannot search for {name}",
            why="it takes a suite and at least one trial",
            fix="--suite FILE --trials 40",
        )
    at_hand = base_at_hand(context, base)
    for version in versions:
        check_base(context, version, base, force=force)
    sources = _sources(context, adapters, versions, seed, dtype, extras)
    space = search_space(
        context, versions, sources, strategies, spaces, ranks, weights, params or {}
    )
    question = digest_of(
        {
            "adapters": [one.digest for one in versions],
            "suites": [one.digest for one in read],
            "space": space.to_json(),
            "seed": seed if storage is None else 0,
            "merge": [dtype, extras],
        }
    )
    study_name = study or f"{name}-{question.partition(':')[2][:8]}"
    refs.check_name(study_name)
    here = context.home.path / "search" / f"{study_name}.db"
    url = storage or f"sqlite:///{here}"
    with (
        _alone(here, study_name, own=storage is None),
        open_study(url, study_name, question, shared=storage is not None) as opened,
    ):
        _try_all(
            context,
            opened,
            space,
            _Asked(read, files, at_hand, batch, trials, seed, shared=storage is not None),
            sources,
            open_executor(context, on) if count_done(opened) < trials else None,
        )
        found = Found(
            study_name,
            shown(url) if storage else str(here),
            sources.labels,
            tuple(one.name for one in read),
            tried(opened)[:trials] if storage is None else tried(opened),
        )
    if not found.front:
        raise MergeError(
            f"none of the {len(found.trials)} trials of {study_name} could be merged",
            why=found.failed[-1].error if found.failed else "",
            fix="--strategy linear",
        )
    if dry_run:
        return Searched(found, None, created=False)
    return _register(context, found, read, sources, versions, name, seed, message, alias, force)


def _versions(context: Context, adapters: Sequence[str]) -> list[Version]:
    versions = [find_version(context, ref) for ref in adapters]
    if len({one.digest for one in versions}) < max(2, len(versions)):
        raise BadRecipe(
            f"cannot search how to merge {' and '.join(adapters)}",
            why="it takes two adapters or more, each once",
            fix="adaptkit search naval medic …",
        )
    return versions


def _sources(
    context: Context,
    adapters: Sequence[str],
    versions: Sequence[Version],
    seed: int,
    dtype: str | None,
    extras: str | None,
) -> Sources:
    from adaptkit.workspace.tasks.search import Sources

    moments = []
    for version in versions:
        verified_tree(context, version.digest)
        measured = kept_moments(context).of(version.digest)
        moments.append(str(measured[0]) if measured else None)
    digests = tuple(version.digest for version in versions)
    return Sources(
        Supply.of(context, digests), digests, tuple(adapters), tuple(moments), seed, dtype, extras
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every candidate is asked, and how many of them."""

    suites: Sequence[Suite]
    files: Sequence[Path]
    base: Base
    batch: int
    trials: int
    seed: int
    shared: bool


def _try_all(
    context: Context,
    study: Any,
    space: SearchSpace,
    asked: _Asked,
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
    context: Context, asked: _Asked, sources: Sources, executor: Executor | None
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


def _register(
    context: Context,
    found: Found,
    suites: Sequence[Suite],
    sources: Sources,
    versions: Sequence[Version],
    name: str,
    seed: int,
    message: str,
    alias: str | None,
    force: bool,
) -> Searched:
    winner = found.winner
    candidate = winner.candidate
    facts = {
        "study": found.study,
        "trials": len(found.trials),
        "trial": winner.number,
        "seed": seed,
        "skills": winner.skills,
        "suites": {suite.name: suite.digest for suite in suites},
    }
    merged = merge(
        context,
        [(one.ref, weight) for one, weight in zip(versions, candidate.weights, strict=True)],
        name=name,
        strategy=candidate.strategy,
        space=candidate.space,
        params=candidate.params,
        rank=candidate.rank,
        seed=seed,
        dtype=sources.dtype,
        extras=sources.extras,
        message=message or f"the best of {len(found.trials)} trials of {found.study}",
        alias=alias,
        force=force,
        facts={"search": facts},
    )
    assert merged.version is not None
    version = context.registry.annotate(
        merged.version.name,
        merged.version.number,
        metrics={
            f"{one.name}.{one.score}": float(f"{winner.figures[one.name]:.6g}") for one in suites
        },
        author=context.config.author,
    )
    return Searched(found, version, merged.created)


@contextmanager
def _alone(file: Path, study: str, *, own: bool) -> Iterator[None]:
    """Hold a study of this home; one in a storage of the team's is anyone's to join."""
    if not own:
        yield
        return
    with os_errors("write", file):
        file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.with_suffix(".lock")
    taken = Conflict(
        f"the search '{study}' is running already",
        why=f"another process holds {lock}",
        fix="wait for it; or --storage URL, where many drivers share a study",
    )
    with exclusive_lock(lock, taken):
        yield
