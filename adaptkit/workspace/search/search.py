"""Search for the best merge of adapters, and register it with the study that found it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.errors import BadRecipe, MergeError
from adaptkit.evaluation.suites import read_suites
from adaptkit.io.safe_paths import user_path
from adaptkit.types import digest_of
from adaptkit.workspace.context.executor import executor_url
from adaptkit.workspace.context.moments import kept_moments
from adaptkit.workspace.lookup.artifacts import find_version, verified_tree
from adaptkit.workspace.merge.merge import merge
from adaptkit.workspace.results import names
from adaptkit.workspace.search.space import search_space
from adaptkit.workspace.search.trials import Asked, searched, study_of
from adaptkit.workspace.tasks.supply import Supply
from adaptkit.workspace.train.evaluate import base_at_hand, check_base

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from adaptkit.search.candidates import SearchSpace
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
    on = executor_url(context, on)
    refs.check_name(name)
    asked = _asked(context, name, adapters, suites, base, trials, batch, seed, storage, force)
    sources = _sources(context, adapters, asked.versions, seed, dtype, extras)
    space = search_space(
        context, asked.versions, sources, strategies, spaces, ranks, weights, params or {}
    )
    question = _question(asked, sources, space)
    found = searched(
        context, study_of(context, name, study, storage, question), asked, sources, space, on
    )
    if not found.front:
        raise MergeError(
            f"none of the {len(found.trials)} trials of {found.study} could be merged",
            why=found.failed[-1].error if found.failed else "",
            fix="--strategy linear",
        )
    if dry_run:
        return Searched(found, None, created=False)
    return _register(context, found, asked, sources, name, message, alias, force)


def _asked(
    context: Context,
    name: str,
    adapters: Sequence[str],
    suites: Sequence[str | os.PathLike[str]],
    base: str,
    trials: int,
    batch: int,
    seed: int,
    storage: str | None,
    force: bool,
) -> Asked:
    """The suites, the adapters and their base, each checked."""
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
    return Asked(versions, read, files, at_hand, batch, trials, seed, shared=storage is not None)


def _question(asked: Asked, sources: Sources, space: SearchSpace) -> str:
    """The digest of what a study is about: one of another question is another study."""
    return digest_of(
        {
            "adapters": [one.digest for one in asked.versions],
            "suites": [one.digest for one in asked.suites],
            "space": space.to_json(),
            "seed": 0 if asked.shared else asked.seed,
            "merge": [sources.dtype, sources.extras],
        }
    )


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


def _register(
    context: Context,
    found: Found,
    asked: Asked,
    sources: Sources,
    name: str,
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
        "seed": asked.seed,
        "skills": winner.skills,
        "suites": {suite.name: suite.digest for suite in asked.suites},
    }
    merged = merge(
        context,
        [(one.ref, weight) for one, weight in zip(asked.versions, candidate.weights, strict=True)],
        name=name,
        strategy=candidate.strategy,
        space=candidate.space,
        params=candidate.params,
        rank=candidate.rank,
        seed=asked.seed,
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
            f"{one.name}.{one.score}": float(f"{winner.figures[one.name]:.6g}")
            for one in asked.suites
        },
        author=context.config.author,
    )
    return Searched(found, version, merged.created)
