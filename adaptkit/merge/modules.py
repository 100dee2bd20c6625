"""What becomes of the modules of a merge: cut to their rank, cast, and how far that is from what was wanted.

Modules of equal shapes are computed together where numpy asks more for each call than for the work; the bytes are
those of one by one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.algebra import stacked
from adaptkit.algebra.lowrank import WORK, distance, leading, norm, rounding, svd, work
from adaptkit.errors import MergeError
from adaptkit.extend import Dense, LowRank
from adaptkit.io.safetensors.reader import numpy_dtype
from adaptkit.merge.plan import contributions, generator, merged_update, rank_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from adaptkit.extend import AdapterMethod, Array, Delta, MergeStrategy, Module
    from adaptkit.merge.plan import Adapters, ModulePlan
    from adaptkit.merge.recipe import Recipe

_TOGETHER = 64
"""The most modules that are made at once."""
_BYTES = 4 << 20
"""Of the factors of modules made at once: what stays in the cache."""


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


def by_module(plans: Sequence[ModulePlan]) -> dict[str, list[ModulePlan]]:
    """The plans of each module, whose parts are packed together."""
    groups: dict[str, list[ModulePlan]] = defaultdict(list)
    for one in plans:
        groups[one.module.name].append(one)
    return groups


def together(groups: Iterable[Sequence[ModulePlan]]) -> Iterator[list[Sequence[ModulePlan]]]:
    """Some modules at a time, so that small ones are made together; a large one is alone."""
    some: list[Sequence[ModulePlan]] = []
    size = 0
    for group in groups:
        some.append(group)
        size += sum(
            8 * sum(one.module.shape) * sum(part.rank for _, part in one.parts) for one in group
        )
        if size >= _BYTES or len(some) >= _TOGETHER:
            yield some
            some, size = [], 0
    if some:
        yield some


def make_modules(
    recipe: Recipe,
    strategy: MergeStrategy[Any],
    groups: Sequence[Sequence[ModulePlan]],
    adapters: Adapters,
    method: AdapterMethod,
    packing: Packing,
) -> list[MadeModule]:
    """Some modules with all their parts, in whichever process."""
    plans = [one for group in groups for one in group]
    made = _made_together(recipe, strategy, plans, adapters, packing)
    for one in plans:
        if one.module.key not in made:
            whole, exact_sum = merged_update(recipe, strategy, one, adapters)
            made[one.module.key] = _finish(recipe, one, whole, exact_sum, packing)
    return [
        MadeModule(
            method.pack([(one.module, made[one.module.key][0]) for one in group]),
            {one.module.key: made[one.module.key][1] for one in group},
        )
        for group in groups
    ]


def _made_together(
    recipe: Recipe,
    strategy: MergeStrategy[Any],
    plans: Sequence[ModulePlan],
    adapters: Adapters,
    packing: Packing,
) -> dict[str, tuple[LowRank, Distance]]:
    """Those of the modules that are exact sums of factors and have a partner of their shapes, by key."""
    weights = [parent.weight for parent in recipe.sources]
    if packing.bias or strategy.coefficients(weights, strategy.params(**recipe.params)) is None:
        return {}
    alike: dict[tuple[Any, ...], list[ModulePlan]] = defaultdict(list)
    for one in plans:
        ranks = [rank_of(adapters[digest], part) for digest, part in one.parts]
        if max(ranks) < min(one.module.shape):  # else it may be written out
            alike[one.module.shape, one.module.rank, sum(ranks)].append(one)
    made = {}
    dtype = numpy_dtype(packing.dtype)
    for (_, rank, _), some in alike.items():
        sums = _low_rank_sums(recipe, strategy, some, adapters) if len(some) > 1 else None
        cut = None if sums is None else stacked.cut(sums, rank, dtype)
        for one, (stored, error, size) in zip(some, cut or (), strict=False):
            made[one.module.key] = stored, Distance(error, size, error, size)
    return made


def _low_rank_sums(
    recipe: Recipe, strategy: MergeStrategy[Any], plans: Sequence[ModulePlan], adapters: Adapters
) -> list[list[tuple[LowRank, float]]] | None:
    """What is summed in each module; None where one of them is no sum of factors."""
    params = strategy.params(**recipe.params)
    found = []
    for one in plans:
        _, weights, deltas = contributions(recipe, one, adapters)
        low = [delta for delta in deltas if isinstance(delta, LowRank)]
        coefficients = strategy.coefficients(weights, params)
        if coefficients is None or len(low) < len(deltas):
            return None
        found.append(list(zip(low, coefficients, strict=True)))
    return found


def _finish(
    recipe: Recipe, plan: ModulePlan, whole: Delta, exact_sum: Delta, packing: Packing
) -> tuple[LowRank, Distance]:
    """One module's stored update, and its distances from the untruncated and the exact sum."""
    module = plan.module
    kept, residual, size = _truncate(
        whole, module.rank, lambda: generator(recipe.seed, "truncation", module.key)
    )
    stored = _cast(kept, packing.dtype, module, packing.bias)
    error = math.hypot(residual, rounding(kept, stored))
    if whole is not exact_sum:
        return stored, Distance(error, size, distance(stored, exact_sum), norm(exact_sum))
    return stored, Distance(error, size, error, size)


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
        whole = svd(delta, rank)
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
