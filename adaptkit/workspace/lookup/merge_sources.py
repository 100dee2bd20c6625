"""What a merge starts from: adapters, opened, with their moments, as parents, and the strategy's parameters."""

from __future__ import annotations

from dataclasses import fields, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, BadRecipe, NotFound
from adaptkit.extend.review import Merge
from adaptkit.types import Parent
from adaptkit.workspace.context.moments import open_moments
from adaptkit.workspace.context.reviews import review
from adaptkit.workspace.lookup.adapters import open_for_merge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from adaptkit import refs
    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bases.weights import BaseWeights
    from adaptkit.extend import MergeStrategy
    from adaptkit.merge.recipe import Recipe
    from adaptkit.types import BaseIdentity
    from adaptkit.workspace.context.context import Context


def open_sources(
    context: Context,
    weighted: Sequence[refs.WeightedRef],
    work: Path,
    stack: ExitStack,
    *,
    allow_pickle: bool,
    weights: BaseWeights | None,
) -> list[tuple[OpenAdapter, BaseIdentity]]:
    """The adapters of a merge, each with what is known of its base."""
    return [
        open_for_merge(context, one.ref, work, stack, allow_pickle=allow_pickle, weights=weights)
        for one in weighted
    ]


def with_moments(
    context: Context,
    strategy: MergeStrategy[Any],
    opened: list[tuple[OpenAdapter, BaseIdentity]],
    recipe: Recipe,
    stack: ExitStack,
) -> tuple[list[tuple[OpenAdapter, BaseIdentity]], Recipe]:
    """The adapters with what was measured of their inputs, where the strategy needs it; which it was, in the recipe."""
    if strategy.needs != "moments":
        return opened, recipe
    from adaptkit.merge.moments import missing

    found = [open_moments(context, s.digest, s.label, stack) for s, _ in opened]
    measured = [one for one in found if one is not None]
    if len(measured) < len(found):
        lacking = [s.label for (s, _), one in zip(opened, found, strict=True) if one is None]
        raise missing(lacking, strategy.name)
    return (
        [(replace(s, moment=m.of), b) for (s, b), m in zip(opened, measured, strict=True)],
        replace(recipe, moments=tuple(one.id for one in measured)),
    )


def module_count(opened: Sequence[tuple[OpenAdapter, BaseIdentity]]) -> int | None:
    """How many modules the result has; None where an adapter cannot be merged, which the run says."""
    try:
        return len({m.name for source, _ in opened for m in source.method.modules(source.adapter)})
    except AdaptkitError:
        return None


def parents_of(
    weighted: Sequence[refs.WeightedRef], opened: Sequence[tuple[OpenAdapter, BaseIdentity]]
) -> tuple[list[Parent], list[Mapping[str, Sequence[float]]]]:
    """What a recipe names: each adapter by digest with its weight, and its weights by module."""
    pairs = list(zip(weighted, opened, strict=True))
    parents = [
        Parent(source.digest, one.weight, "merged", source.label) for one, (source, _) in pairs
    ]
    return parents, [one.modules for one in weighted]


def all_params(
    context: Context,
    operation: Callable[..., Any],
    strategy: MergeStrategy[Any],
    params: Mapping[str, Any] | None,
    keywords: Mapping[str, Any],
) -> dict[str, Any]:
    """The parameters of a strategy, given together or as keywords.

    `NotFound` names a parameter that it has not, and a keyword that is neither.
    """
    from adaptkit.merge.recipe import check_params

    check_params([strategy], params or {}, context.plugins.strategies)
    known = {field.name for field in fields(strategy.params)}
    options = set(signature(operation).parameters) - {"context", "sources", "strategy_params"}
    for keyword in keywords:
        if keyword in {"weight", "weights"}:
            raise BadRecipe(
                f"merge takes no '{keyword}'",
                why="a weight belongs to its adapter",
                fix='for example merge({"naval": 0.7, "medic": 0.3}, …)',
            )
        if keyword not in known:
            what = f"argument of merge, or parameter of '{strategy.name}',"
            raise NotFound(what, keyword, known | options)
    return dict(params or {}) | dict(keywords)


def review_merge(
    context: Context,
    recipe: Recipe,
    opened: Sequence[tuple[OpenAdapter, BaseIdentity]],
    name: str | None,
) -> None:
    bases = tuple(known for _, known in opened)
    review(context, Merge(recipe.sources, bases, recipe.canonical(), name))
