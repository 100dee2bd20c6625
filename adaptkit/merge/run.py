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
from dataclasses import dataclass, replace
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
from adaptkit.merge.report import MergeReport, stored_dtype

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.extend import AdapterMethod, MergeStrategy, Module
    from adaptkit.merge.extras import ResolvedExtras
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
    done: Callable[[int], None] = lambda modules: None,
) -> MergeReport:
    """Write the merged adapter into `out`, an empty folder; the inputs are only read.

    `method` is the one that the result has where the sources' own cannot hold it; with `into_lora`,
    in any case. `elsewhere` makes the modules in other processes; where it is None, threads do.
    `done` gets the number of modules that were finished, some at a time.
    """
    if not into_lora and is_closed_sum(recipe, strategy, sources):
        return merge_closed(recipe, sources, out)
    method = next((s.method for s in sources if s.method.packs and not into_lora), method)
    if method is None:
        raise Unmergeable(
            "cannot merge these", why="no plugin has a method that holds low-rank updates"
        )
    work = _prepare(recipe, strategy, sources, method, workers or cores())
    layout, config = _layout(work), _config(work)
    with TensorWriter(out / WEIGHTS, layout) as writer:
        distances = _write_modules(work, writer, elsewhere, done)
        for key in work.extras.tensors.layout:
            writer.write(key, work.extras.tensors.read(key))
        writer.commit()
    write_companions(out, config, work.extras.files)
    return _report(work, distances)


@dataclass(frozen=True, slots=True)
class _Work:
    """What is decided before anything is computed."""

    recipe: Recipe
    strategy: MergeStrategy[Any]
    method: AdapterMethod
    sources: Sequence[OpenAdapter]
    adapters: Adapters
    plans: Sequence[ModulePlan]
    groups: Sequence[Sequence[ModulePlan]]
    """The plans of each module."""
    packing: Packing
    extras: ResolvedExtras
    workers: int


def _prepare(
    recipe: Recipe,
    strategy: MergeStrategy[Any],
    sources: Sequence[OpenAdapter],
    method: AdapterMethod,
    workers: int,
) -> _Work:
    plans = plan_modules(recipe, strategy, sources)
    adapters = {source.digest: source for source in sources}
    workers = _affordable(recipe, plans, adapters, workers)
    if recipe.energy is not None:
        fitted = run_modules(
            lambda one: rank_for_energy(recipe, strategy, one, adapters), plans, workers=workers
        )
        plans = equalise_ranks(list(fitted))
    weights = {parent.digest: parent.weight for parent in recipe.sources}
    parties = [Contributor.of(s, weights[s.digest]) for s in sources]
    settled = resolve_extras(recipe.extras, parties, [s.extras for s in sources], method.settings)
    tensors = respelled(settled.tensors, parties, method, {one.module.name for one in plans})
    extras = replace(settled, tensors=tensors)
    bias = any(_has_bias(adapters[digest], part) for one in plans for digest, part in one.parts)
    packing = Packing(method.name, stored_dtype(recipe, sources), bias)
    groups = list(by_module(plans).values())
    return _Work(
        recipe, strategy, method, sources, adapters, plans, groups, packing, extras, workers
    )


def _layout(work: _Work) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of every tensor that is written."""
    dtype, bias = work.packing.dtype, work.packing.bias
    layout = {
        key: (dtype, array.shape)
        for group in work.groups
        for key, array in work.method.pack(
            [(j.module, _placeholder(j.module.shape, j.module.rank, bias)) for j in group]
        ).items()
    }
    return layout | {
        key: (info.dtype, info.shape) for key, info in work.extras.tensors.layout.items()
    }


def _config(work: _Work) -> dict[str, Any]:
    tensors = work.extras.tensors
    config = work.method.merged_config(
        [source.adapter for source in work.sources],
        [one.module for one in work.plans],
        tuple(tensors.layout),
        work.extras.settings,
        work.packing.bias,
    )
    return config | dict(work.method.row_settings(tensors.rows)) if tensors.rows else config


def _write_modules(
    work: _Work, writer: TensorWriter, elsewhere: Elsewhere | None, done: Callable[[int], None]
) -> dict[str, Distance]:
    """Make and write every module, by threads or elsewhere; the distances of all, by module."""

    def write(made: Sequence[MadeModule]) -> list[Mapping[str, Distance]]:
        writer.write_some({key: array for one in made for key, array in one.tensors.items()})
        return [one.distances for one in made]

    def make(some: Sequence[Sequence[ModulePlan]]) -> list[Mapping[str, Distance]]:
        return write(
            make_modules(work.recipe, work.strategy, some, work.adapters, work.method, work.packing)
        )

    parts = (
        run_modules(make, together(work.groups), workers=work.workers)
        if elsewhere is None
        else map(write, elsewhere(work.plans, work.packing))
    )
    distances: dict[str, Distance] = {}
    for part in parts:
        for found in part:
            distances.update(found)
        done(len(part))
    return distances


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


def _report(work: _Work, distances: Mapping[str, Distance]) -> MergeReport:
    ranks = {plan.module.key: plan.module.rank for plan in work.plans}
    found = [distances[key] for key in ranks]
    error = Loss(
        relative([d.from_whole for d in found], [d.whole for d in found]),
        {key: relative([d.from_whole], [d.whole]) for key, d in zip(ranks, found, strict=True)},
    )
    return MergeReport(
        work.recipe.strategy,
        work.recipe.space,
        max(plan.module.saved_rank for plan in work.plans),
        ranks,
        work.packing.dtype,
        error,
        relative([d.from_sum for d in found], [d.sum for d in found]),
        work.extras.dropped,
    )
