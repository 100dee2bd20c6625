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
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.adapters.write import write_companions
from adaptkit.algebra.loss import Loss, relative
from adaptkit.algebra.lowrank import WORK, distance, leading, norm, rounding, svd, work
from adaptkit.errors import BadRecipe, MergeError, Unmergeable
from adaptkit.extend import Dense, LowRank
from adaptkit.extend.artifact_files import WEIGHTS
from adaptkit.io.machine.hardware import available_memory, cores
from adaptkit.io.machine.parallel import run_modules
from adaptkit.io.safetensors.reader import STORED_DTYPES, numpy_dtype
from adaptkit.io.safetensors.writer import TensorWriter
from adaptkit.merge.closed_methods import is_closed_sum, merge_closed
from adaptkit.merge.extras import Contributor, resolve_extras
from adaptkit.merge.plan import (
    Adapters,
    ModulePlan,
    equalise_ranks,
    generator,
    merged_update,
    plan_modules,
    rank_for_energy,
    rank_of,
)
from adaptkit.merge.report import MergeReport, promote

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.extend import AdapterMethod, Array, Delta, MergeStrategy, Module
    from adaptkit.merge.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Distance:
    """Squared distances and sizes of one module, in float64."""

    from_whole: float
    whole: float
    from_sum: float
    sum: float


@dataclass(frozen=True, slots=True)
class Packing:
    """How results are stored: the method's name, the dtype, and whether there are biases."""

    method: str
    dtype: str
    bias: bool


@dataclass(frozen=True, slots=True)
class MadeModule:
    """One module as it is stored, and how far it is from what was wanted, by the keys of its parts."""

    tensors: Mapping[str, Array]
    distances: Mapping[str, Distance]


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
    settled = resolve_extras(
        recipe.extras,
        [Contributor(s.adapter, s.digest, weights[s.digest], _rows(s)) for s in sources],
        [s.method.extras(s.adapter) for s in sources],
        method.settings,
    )
    extras = settled.tensors
    bias = any(_has_bias(s) for s in sources)

    groups = by_module(plans)
    layout = {
        key: (dtype, array.shape)
        for group in groups.values()
        for key, array in method.pack(
            [(j.module, _placeholder(j.module, bias)) for j in group]
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

        def write(made: MadeModule) -> Mapping[str, Distance]:
            for key, array in made.tensors.items():
                writer.write(key, array)
            return made.distances

        def make(group: list[ModulePlan]) -> Mapping[str, Distance]:
            return write(make_module(recipe, strategy, group, adapters, method, packing))

        distances: dict[str, Distance] = {}
        results = (
            run_modules(make, groups.values(), workers=workers)
            if elsewhere is None
            else (write(made) for part in elsewhere(plans, packing) for made in part)
        )
        for number, found in enumerate(results, 1):
            distances.update(found)
            done(number, len(groups))
        for key in extras.layout:
            writer.write(key, extras.read(key))
        writer.commit()
    write_companions(out, config, settled.files)
    return _report(recipe, plans, dtype, distances, settled.dropped)


def by_module(plans: Sequence[ModulePlan]) -> dict[str, list[ModulePlan]]:
    """The plans of each module, whose parts are packed together."""
    groups: dict[str, list[ModulePlan]] = defaultdict(list)
    for one in plans:
        groups[one.module.name].append(one)
    return groups


def make_module(
    recipe: Recipe,
    strategy: MergeStrategy[Any],
    group: Sequence[ModulePlan],
    adapters: Adapters,
    method: AdapterMethod,
    packing: Packing,
) -> MadeModule:
    """One module with all its parts, in whichever process."""
    merged = [
        _merge_module(recipe, strategy, one, adapters, packing.dtype, packing.bias) for one in group
    ]
    pairs = list(zip(group, merged, strict=True))
    tensors = method.pack([(one.module, made) for one, (made, _) in pairs])
    return MadeModule(tensors, {one.module.key: distance for one, (_, distance) in pairs})


def _merge_module(
    recipe: Recipe,
    strategy: MergeStrategy[Any],
    plan: ModulePlan,
    adapters: Adapters,
    dtype: str,
    bias: bool,
) -> tuple[LowRank, Distance]:
    """One module's stored update, and its distances from the untruncated and the exact sum."""
    module = plan.module
    whole, exact_sum = merged_update(recipe, strategy, plan, adapters)
    kept, residual, size = _truncate(
        whole, module.rank, lambda: generator(recipe.seed, "truncation", module.key)
    )
    stored = _cast(kept, dtype, module, bias)
    error = math.hypot(residual, rounding(kept, stored))
    if whole is not exact_sum:
        return stored, Distance(error, size, distance(stored, exact_sum), norm(exact_sum))
    return stored, Distance(error, size, error, size)


def _rows(source: OpenAdapter) -> dict[str, tuple[int, ...]]:
    return dict(source.method.row_replacements(source.adapter).values())


def _truncate(
    delta: Delta, rank: int, rng: Callable[[], np.random.Generator]
) -> tuple[LowRank, float, float]:
    """The best update of that rank, what it leaves out, and the size of the whole."""
    if isinstance(delta, Dense):
        return *leading(delta, rank, rng()), norm(delta)
    noise = 1e-14 * float(np.linalg.norm(work(delta.B)) * np.linalg.norm(work(delta.A)))
    if delta.rank == rank:
        kept, residual, size = delta, 0.0, norm(delta)
    else:
        whole = svd(delta)
        (kept, residual), size = whole.truncated(rank), whole.norm
    return kept, residual, size if size > noise else 0.0


def _cast(delta: LowRank, dtype: str, module: Module, bias: bool) -> LowRank:
    target = numpy_dtype(dtype)
    vector = None
    if bias:
        vector = (np.zeros(module.shape[0], WORK) if delta.bias is None else delta.bias).astype(
            target
        )
    with np.errstate(over="ignore"):
        stored = LowRank(
            np.ascontiguousarray(work(delta.B) * delta.scale).astype(target),
            np.ascontiguousarray(delta.A).astype(target),
            1.0,
            vector,
        )
    arrays = [stored.B, stored.A] if vector is None else [stored.B, stored.A, vector]
    if not all(np.isfinite(array).all() for array in arrays):
        raise MergeError(
            f"the module '{module.key}' came out as NaN or Inf",
            why=f"its values do not fit {dtype}",
            fix="--dtype float32, or smaller weights",
        )
    return stored


def _placeholder(module: Module, bias: bool) -> LowRank:
    """Arrays of the right shapes that take no memory."""
    rows, columns = module.shape
    zero = np.zeros((), np.int8)
    return LowRank(
        np.broadcast_to(zero, (rows, module.rank)),
        np.broadcast_to(zero, (module.rank, columns)),
        1.0,
        np.broadcast_to(zero, (rows,)) if bias else None,
    )


def _has_bias(source: OpenAdapter) -> bool:
    method, view, base = source.method, source.adapter, source.base
    modules = method.modules(view)
    if any(method.needs_bias(view, module) for module in modules):
        return True
    return (
        base is not None
        and method.needs(view) == "weights"
        and any(
            base.name_of(f"{module.name}.bias") and method.bias_applier(view, module)
            for module in modules
        )
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
