"""Merge adapters straight into a base's weights."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import staging
from adaptkit.workspace.lookup.merge_sources import (
    all_params,
    open_sources,
    parents_of,
    review_merge,
    with_moments,
)
from adaptkit.workspace.results import Baked

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from adaptkit.refs import Sources
    from adaptkit.workspace.context.context import Context


def merge_into_model(
    context: Context,
    sources: Sources,
    base: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    strategy: str = "linear",
    space: str | None = None,
    params: Mapping[str, Any] | None = None,
    rank: int | None = None,
    energy: float | None = None,
    keep: str = "fro",
    normalize: bool = False,
    seed: int = 0,
    dtype: str | None = None,
    extras: str | None = None,
    missing: str = "skip",
    force: bool = False,
    clean: bool = False,
    allow_pickle: bool = False,
    workers: int | None = None,
    **strategy_params: Any,
) -> Baked:
    """Merge adapters straight into the weights of `base`, as a full model in `out`.

    Nothing is cut to a rank.

    `sources` and the strategy's parameters are as in `merge`.
    """
    from adaptkit.bases.weights import BaseWeights
    from adaptkit.merge import recipe as recipes
    from adaptkit.merge.into_weights import merged_updates
    from adaptkit.workspace.bake import bake_opened

    folder, plan = user_path(base), context.plugins.strategy(strategy)
    choices = recipes.Choices(
        space=space,
        params=all_params(context, merge_into_model, plan, params, strategy_params),
        rank=rank,
        energy=energy,
        keep=keep,
        normalize=normalize,
        seed=seed,
        dtype=dtype,
        extras=extras,
        missing=missing,
    )
    weighted = refs.weighted(sources)
    with ExitStack() as stack, staging(context.tmp) as work:
        weights = stack.enter_context(BaseWeights.open(folder, context.home.cache))
        opened = open_sources(
            context, weighted, work, stack, allow_pickle=allow_pickle, weights=weights
        )
        recipe = recipes.resolve(plan, *parents_of(weighted, opened), choices)
        opened, recipe = with_moments(context, plan, opened, recipe, stack)
        review_merge(context, recipe, opened, None)
        companions = work / "companions"
        companions.mkdir()
        adapters = [source for source, _ in opened]
        merged = merged_updates(recipe, plan, adapters, weights, companions)
        declared = [(source.label, known) for source, known in opened]
        return Baked(
            bake_opened(
                context,
                declared,
                merged,
                folder,
                Path(out),
                dtype=dtype,
                force=force,
                clean=clean,
                workers=workers,
            )
        )
