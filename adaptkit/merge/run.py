"""A resolved recipe, made: module by module, into a new adapter directory.

Notable choices:
- one module at a time, several at once: every worker runs its BLAS on one thread, so the bytes do
  not depend on how many workers there are
- when a strategy says its result is a weighted sum, factors are stacked and nothing is computed;
  otherwise its space gives it tensors and takes one back
- every loss that is reported was measured on what is stored, after truncation and rounding
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.adapters.write import write_companions
from adaptkit.algebra.loss import Loss, relative
from adaptkit.algebra.lowrank import WORK
from adaptkit.errors import BadRecipe, Unmergeable
from adaptkit.extend import LowRank
from adaptkit.extend.artifact_files import WEIGHTS
from adaptkit.io.machine.hardware import available_memory, cores
from adaptkit.io.machine.parallel import run_modules
from adaptkit.io.safetensors.reader import STORED_DTYPES
from adaptkit.io.safetensors.writer import TensorWriter
from adaptkit.merge.closed_methods import is_closed_sum, merge_closed
from adaptkit.merge.extras import Contributor, resolve_extras, respelled
from adaptkit.merge.modules import Distance, MadeModule, Packing, by_module, make_modules, together
from adaptkit.merge.plan import (
    Adapters,
    ModulePlan,
    equalise_ranks,
    plan_modules,
    rank_for_energy,
    rank_of,
)
from adaptkit.merge.report import MergeReport, promote

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.extend import AdapterMethod, MergeStrategy, Module
    from adaptkit.merge.recipe import Recipe


Elsewhere = Callable[[Sequence[ModulePlan], Packing], Iterable[Sequence[MadeModule]]]
"""Makes every module of the plans, in order, in processes that are not this one."""


def run(
    recipe: Recipe,
    strategy: MergeStrategy[Any],
    sources: Sequence[OpenAdapter],
    out: Path,
    *,
    method: AdapterMethod | None = None,
    into_lora: bool = False,
    workers: int | None = None,
    elsewhere: Elsewhere | None = None,
    done: Callable[[int, int], None] = lambda count, total: None,
) -> MergeReport:
    """Write the merged adapter into `out`, an empty folder; the inputs are only read.

    `method` is the one that the result has where the sources' own cannot hold it; with `into_lora`,
    in any case. `elsewhere` makes the modules in other processes; where it is None, threads do.
    """
    if not into_lora and is_closed_sum(recipe, strategy, sources):
        return merge_closed(recipe, sources, out)
    method = next((s.method for s in sources if s.method.packs and not into_lora), method)
    if method is None:
        raise Unmergeable(
            "cannot merge these", why="no plugin has a method that holds low-rank updates"
        )
    plans = plan_modules(recipe, strategy, sources)
    adapters = {source.digest: source for source in sources}
    workers = _affordable(recipe, plans, adapters, workers or cores())
    if recipe.energy is not None:
        fitted = run_modules(
            lambda one: rank_for_energy(recipe, strategy, one, adapters), plans, workers=workers
        )
        plans = equalise_ranks(list(fitted))
    dtype = (
        STORED_DTYPES[recipe.dtype]
        if recipe.dtype
        else promote(s.adapter.header[k].dtype for s in sources for k in s.delta_keys())
    )
    weights = {parent.digest: parent.weight for parent in recipe.sources}
    parties = [Contributor.of(s, weights[s.digest]) for s in sources]
    settled = resolve_extras(
        recipe.extras,
        parties,
        [s.method.extras(s.adapter) for s in sources],
        method.settings,
    )
    extras = respelled(settled.tensors, parties, method, {one.module.name for one in plans})
    bias = any(_has_bias(adapters[digest], part) for one in plans for digest, part in one.parts)

    groups = by_module(plans)
    layout = {
        key: (dtype, array.shape)
        for group in groups.values()
        for key, array in method.pack(
            [(j.module, _placeholder(j.module.shape, j.module.rank, bias)) for j in group]
        ).items()
    }
    layout |= {key: (info.dtype, info.shape) for key, info in extras.layout.items()}
    config = method.merged_config(
        [s.adapter for s in sources],
        [one.module for one in plans],
        tuple(extras.layout),
        settled.settings,
        bias,
    )
    if extras.rows:
        config |= method.row_settings(extras.rows)

    packing = Packing(method.name, dtype, bias)
    with TensorWriter(out / WEIGHTS, layout) as writer:

        def write(made: Sequence[MadeModule]) -> list[Mapping[str, Distance]]:
            for one in made:
                for key, array in one.tensors.items():
                    writer.write(key, array)
            return [one.distances for one in made]

        def make(some: Sequence[Sequence[ModulePlan]]) -> list[Mapping[str, Distance]]:
            return write(make_modules(recipe, strategy, some, adapters, method, packing))

        distances: dict[str, Distance] = {}
        results = (
            run_modules(make, together(groups.values()), workers=workers)
            if elsewhere is None
            else map(write, elsewhere(plans, packing))
        )
        for number, found in enumerate((one for part in results for one in part), 1):
            distances.update(found)
            done(number, len(groups))
        for key in extras.layout:
            writer.write(key, extras.read(key))
        writer.commit()
    write_companions(out, config, settled.files)
    return _report(recipe, plans, dtype, distances, settled.dropped)


@lru_cache(256)  # most modules of a model share a few shapes
def _placeholder(shape: tuple[int, int], rank: int, bias: bool) -> LowRank:
    """Arrays of the right shapes that take no memory."""
    rows, columns = shape
    zero = np.zeros((), np.int8)
    return LowRank(
        np.broadcast_to(zero, (rows, rank)),
        np.broadcast_to(zero, (rank, columns)),
        1.0,
        np.broadcast_to(zero, (rows,)) if bias else None,
    )


def _has_bias(source: OpenAdapter, module: Module) -> bool:
    method, view, base = source.method, source.adapter, source.base
    return method.needs_bias(view, module) or (
        base is not None
        and source.needs_weights
        and bool(base.name_of(f"{module.name}.bias") and method.bias_applier(view, module))
    )


def _affordable(
    recipe: Recipe, plans: Sequence[ModulePlan], adapters: Adapters, workers: int
) -> int:
    """How many modules may be written out at a time.

    Refused before it starts when not even one can.
    """

    def cost(plan: ModulePlan) -> int:
        written = recipe.space == "dense" or any(
            rank_of(adapters[digest], part) >= min(part.shape) for digest, part in plan.parts
        )
        return (
            (len(plan.parts) + 4) * math.prod(plan.module.shape) * np.dtype(WORK).itemsize
            if written
            else 0
        )

    most, free = max(map(cost, plans)), available_memory()
    if most > free:
        worst = max(plans, key=cost)
        raise BadRecipe(
            f"merging '{worst.module.key}' in the space 'dense' would take {most / 1e9:.1f} GB",
            why=f"{free / 1e9:.1f} GB of memory are free",
            fix="--space core or --space knots",
        )
    return max(1, min(workers, free // most)) if most else workers


def _report(
    recipe: Recipe,
    plans: Sequence[ModulePlan],
    dtype: str,
    distances: Mapping[str, Distance],
    dropped: tuple[str, ...],
) -> MergeReport:
    ranks = {plan.module.key: plan.module.rank for plan in plans}
    found = [distances[key] for key in ranks]
    error = Loss(
        relative([d.from_whole for d in found], [d.whole for d in found]),
        {key: relative([d.from_whole], [d.whole]) for key, d in zip(ranks, found, strict=True)},
    )
    from_sum = relative([d.from_sum for d in found], [d.sum for d in found])
    top = max(plan.module.saved_rank for plan in plans)
    return MergeReport(recipe.strategy, recipe.space, top, ranks, dtype, error, from_sum, dropped)
