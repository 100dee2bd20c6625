"""What a search of merges chooses from, given these adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadRecipe, NotFound
from adaptkit.workspace.lookup.artifacts import verified_tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.extend import MergeStrategy
    from adaptkit.search.candidates import SearchSpace
    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context
    from adaptkit.workspace.tasks.search import Sources

ANY = "any"
"""The word for every strategy that takes these adapters."""


def search_space(
    context: Context,
    versions: Sequence[Version],
    sources: Sources,
    strategies: Sequence[str],
    spaces: Sequence[str],
    ranks: Sequence[int],
    weights: tuple[float, float],
    params: Mapping[str, str],
) -> SearchSpace:
    """What is chosen from; `NotFound` and `BadRecipe` name what no strategy has."""
    from adaptkit.merge.recipe import check_params
    from adaptkit.search.candidates import SearchSpace, option_of

    chosen = _strategies(context, sources, strategies)
    check_params(chosen, params, context.plugins.strategies)
    known = {space for strategy in chosen for space in strategy.spaces}
    for one in spaces:
        if one not in known:
            raise NotFound("space of these strategies", one, known)
    if any(rank < 1 for rank in ranks):
        raise BadRecipe(f"--rank is {min(ranks)}", why="a rank is at least 1", fix="--rank 8")
    return SearchSpace(
        sources.labels,
        tuple(option_of(strategy, spaces, params) for strategy in chosen),
        tuple(sorted(set(ranks))) or _ranks(context, versions),
        weights,
    )


def _strategies(
    context: Context, sources: Sources, names: Sequence[str]
) -> list[MergeStrategy[Any]]:
    """Those that were named; `any`, or none: those that take so many adapters, with moments where all were measured."""
    measured = None not in sources.moments
    count = len(sources.digests)

    def takes(strategy: MergeStrategy[Any]) -> bool:
        least, most = strategy.arity
        return least <= count <= (most or count) and (strategy.needs != "moments" or measured)

    if not names:
        fitting = [one for one in context.plugins.strategies() if takes(one)]
        return [context.plugins.strategy("linear")] + [
            one for one in fitting if one.needs == "moments"
        ]
    if ANY in names:
        return sorted(
            (one for one in context.plugins.strategies() if takes(one)), key=lambda one: one.name
        )
    return [context.plugins.strategy(one) for one in dict.fromkeys(names)]


def _ranks(context: Context, versions: Sequence[Version]) -> tuple[int, ...]:
    """Half the largest rank of the adapters, that rank, and the sum of all, at which nothing is cut."""
    from adaptkit.adapters.adapter import Adapter

    largest = []
    for version in versions:
        with Adapter.open(verified_tree(context, version.digest), version.ref) as adapter:
            modules = context.plugins.method_for(adapter).modules(adapter)
            largest.append(max((one.rank for one in modules), default=1))
    top = max(largest)
    return tuple(sorted({max(1, top // 2), top, sum(largest)}))
