"""A resolved recipe, made: module by module, into a new adapter directory.

Notable choices:
- one module at a time, several at once: every worker runs its BLAS on one thread, so the bytes do not
  depend on how many workers there are
- when a strategy says its result is a weighted sum, factors are stacked and nothing is computed;
  otherwise its space gives it tensors and takes one back
- every loss that is reported was measured on what is stored, after truncation and rounding
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from adaptkit.closed import run_closed, stays_itself
from adaptkit.contents import WEIGHTS
from adaptkit.errors import BadRecipe, MergeError, Unmergeable
from adaptkit.extend import Dense, LowRank
from adaptkit.extras import Party, settle, write_companions
from adaptkit.lowrank import WORK, add, dense_svd, distance, leading, norm, rounding, sum_biases, svd, work
from adaptkit.outcome import Loss, MergeReport, Source, promote, relative
from adaptkit.recipe import DTYPES
from adaptkit.spaces import view
from adaptkit.tensor_writer import TensorWriter
from adaptkit.tensors import numpy_dtype
from adaptkit.weights import as_matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adaptkit.extend import AdapterMethod, Array, Delta, MergeStrategy, Module
    from adaptkit.recipe import Recipe
    from adaptkit.types import Parent


@dataclass(frozen=True, slots=True)
class _Job:
    """One module of the result: who takes part, the rank it gets, and how deep it lies (0 first layer, 1 last)."""

    module: Module
    parts: tuple[tuple[Source, Module], ...]
    place: float = 0.0


@dataclass(frozen=True, slots=True)
class _Distance:
    """Squared distances and sizes of one module, in float64."""

    from_whole: float
    whole: float
    from_sum: float
    sum: float


def run(
    recipe: Recipe,
    strategy: MergeStrategy[Any],
    sources: Sequence[Source],
    out: Path,
    *,
    method: AdapterMethod | None = None,
    into_lora: bool = False,
    workers: int | None = None,
    done: Callable[[int, int], None] = lambda count, total: None,
) -> MergeReport:
    """Write the merged adapter into `out`, an empty folder; the inputs are only read.

    `method` is the one that the result has where the sources' own cannot hold it; with `into_lora`, in any case.
    """
    if not into_lora and stays_itself(recipe, strategy, sources):
        return run_closed(recipe, sources, out)
    method = next((s.method for s in sources if s.method.packs and not into_lora), method)
    if method is None:
        raise Unmergeable("cannot merge these", why="no plugin has a method that holds low-rank updates")
    jobs = _plan(recipe, strategy, sources)
    workers = _affordable(recipe, jobs, workers or os.cpu_count() or 1)
    if recipe.energy is not None:
        with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
            jobs = list(pool.map(lambda job: _by_energy(recipe, strategy, job), jobs))
    dtype = (
        DTYPES[recipe.dtype]
        if recipe.dtype
        else promote(s.adapter.header[k].dtype for s in sources for k in s.delta_keys())
    )
    weights = {parent.digest: parent.weight for parent in recipe.sources}
    settled = settle(recipe.extras, [Party(s.adapter, s.digest, weights[s.digest]) for s in sources],
                     [s.method.extras(s.adapter) for s in sources], method.settings)  # fmt: skip
    extras = settled.tensors
    bias = any(_has_bias(s) for s in sources)

    groups: dict[str, list[_Job]] = defaultdict(list)
    for job in jobs:
        groups[job.module.name].append(job)
    layout = {key: (dtype, array.shape) for group in groups.values()
              for key, array in method.pack([(j.module, _placeholder(j.module, bias)) for j in group]).items()}  # fmt: skip
    layout |= {key: (info.dtype, info.shape) for key, info in extras.layout.items()}
    config = method.merged_config([s.adapter for s in sources], [j.module for j in jobs], tuple(extras.layout),
                                  settled.settings, bias)  # fmt: skip

    with TensorWriter(out / WEIGHTS, layout) as writer:

        def make(group: list[_Job]) -> list[tuple[str, _Distance]]:
            merged = [_merge_module(recipe, strategy, job, dtype, bias) for job in group]
            for key, array in method.pack([(job.module, m[0]) for job, m in zip(group, merged, strict=True)]).items():
                writer.write(key, array)
            return [(job.module.key, m[1]) for job, m in zip(group, merged, strict=True)]

        distances: dict[str, _Distance] = {}
        with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
            for number, found in enumerate(pool.map(make, groups.values()), 1):
                distances.update(found)
                done(number, len(groups))
        for key in extras.layout:
            writer.write(key, extras.read(key))
        writer.commit()
    write_companions(out, config, settled.files)
    return _report(recipe, jobs, dtype, distances, settled.dropped)


def machine() -> dict[str, str]:
    """What the bytes of a merge may depend on besides its recipe."""
    import platform

    return {"numpy": np.__version__, "cpu": platform.machine() + " " + _cpu_model()}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def check_methods(sources: Sequence[Source], recipe: Recipe) -> None:
    """Refuse, by name, what cannot be merged at all, or not without its base or a rank."""
    for source in sources:
        if reason := source.method.unmergeable(source.adapter):
            raise Unmergeable(f"cannot merge {source.label}", why=reason)
        needs = source.method.needs(source.adapter)
        if needs != "nothing" and source.base is None:
            what = "weights" if needs == "weights" else "shapes of the weights"
            raise Unmergeable(f"cannot merge {source.label} without its base",
                              why=f"a {source.method.name} update depends on the base's {what}", fix="--base DIR")  # fmt: skip
        if needs == "weights" and recipe.rank is None and recipe.energy is None:
            raise BadRecipe(f"merging {source.label} needs --rank", why="its update is not low rank; what a rank loses is "
                            "reported", fix="--rank 64, or bake it: adaptkit bake REF --base DIR --out DIR")  # fmt: skip


def _plan(recipe: Recipe, strategy: MergeStrategy[Any], sources: Sequence[Source]) -> list[_Job]:
    """Which adapters take part in which module, and the rank each module gets."""
    check_methods(sources, recipe)
    found: dict[str, list[tuple[Source, Module]]] = defaultdict(list)
    for source in sources:
        for module in source.method.modules(source.adapter):
            found[module.key].append((source, module))
    cap = recipe.rank
    if cap is None and strategy.rank_rule == "parents":
        cap = max(_rank(*part) * part[1].parts for parts in found.values() for part in parts)
    last = max((_layer(key) or 0 for key in found), default=0)
    jobs = []
    for key in sorted(found):
        parts = found[key]
        first = parts[0][1]
        for source, module in parts[1:]:
            if (module.shape, module.parts) != (first.shape, first.parts):
                raise Unmergeable(f"the module '{key}' has two shapes",
                                  why=f"{list(first.shape)} in {parts[0][0].label}, {list(module.shape)} in {source.label}",
                                  fix="these adapters were trained on different models")  # fmt: skip
        ranks = [_rank(*part) for part in parts]
        whole = ranks[0] if recipe.space == "factors" else min(sum(ranks), *first.shape)
        rank = whole if cap is None else min(whole, max(1, cap // first.parts))
        layer = _layer(first.name)
        place = layer / last if layer is not None and last else 0.0
        jobs.append(_Job(replace(first, rank=rank), tuple(parts), place))
    most = max(sum(_rank(*part) for part in job.parts) * job.module.parts for job in jobs)
    if recipe.rank is not None and recipe.rank > most:
        raise BadRecipe(
            f"--rank is {recipe.rank}", why=f"the whole sum has rank {most}", fix="drop --rank to keep it whole"
        )
    return jobs


def _layer(name: str) -> int | None:
    """The number of the layer in a module's name: the first part that is a number."""
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def _rank(source: Source, module: Module) -> int:
    """The rank of one update; what changes the weights themselves has a full one."""
    return min(module.shape) if source.method.needs(source.adapter) == "weights" else module.rank


def _merge_module(
    recipe: Recipe, strategy: MergeStrategy[Any], job: _Job, dtype: str, bias: bool
) -> tuple[LowRank, _Distance]:
    """One module's update as it is stored, and its distances from the untruncated result and the exact sum."""
    module = job.module
    whole, exact_sum = _whole(recipe, strategy, job)
    kept, residual, size = _truncate(whole, module.rank, _generator(recipe.seed, "truncation", module.key))
    stored = _cast(kept, dtype, module, bias)
    error = math.hypot(residual, rounding(kept, stored))
    if whole is not exact_sum:
        return stored, _Distance(error, size, distance(stored, exact_sum), norm(exact_sum))
    return stored, _Distance(error, size, error, size)


def _whole(recipe: Recipe, strategy: MergeStrategy[Any], job: _Job) -> tuple[Delta, Delta]:
    """The strategy's result before any truncation, and the exact sum; one object where they are the same."""
    module = job.module
    present = {source.digest: (source, part) for source, part in job.parts}
    parents = [p for p in recipe.sources if recipe.missing == "zero" or p.digest in present]
    weights = [_weight(recipe, parent, job) for parent in parents]
    deltas: list[Delta] = [_delta(*present[p.digest]) if p.digest in present else _zero(module) for p in parents]
    params = strategy.params(**recipe.params)
    coefficients = strategy.coefficients(weights, params)
    if coefficients is not None:
        total = add(deltas, coefficients)
        return total, total
    seen = view(recipe.space, deltas, weights)
    rngs = [_generator(recipe.seed, parent.digest, module.key) for parent in parents]
    rebuilt = seen.rebuild([strategy.merge(tensors, w, params, rngs) for tensors, w in seen.groups])
    return replace(rebuilt, bias=sum_biases(deltas, weights)), add(deltas, weights)


def _weight(recipe: Recipe, parent: Parent, job: _Job) -> float:
    """The adapter's weight in this module: the last glob that names it, else the weight of the whole adapter."""
    for one in reversed(recipe.modules):
        if one.digest == parent.digest and fnmatchcase(job.module.name, one.glob):
            return one.at(job.place)
    return parent.weight


def _by_energy(recipe: Recipe, strategy: MergeStrategy[Any], job: _Job) -> _Job:
    """The module with the smallest rank that keeps what `--energy` asks for."""
    assert recipe.energy is not None
    whole, _ = _whole(recipe, strategy, job)
    values = (svd(whole) if isinstance(whole, LowRank) else dense_svd(whole)).S
    if recipe.keep == "ratio":
        rank = int(np.count_nonzero(values * recipe.energy >= values[0]))
    else:
        sums = np.cumsum(values if recipe.keep == "cumulative" else values**2)
        share = recipe.energy if recipe.keep == "cumulative" else recipe.energy**2
        rank = int(np.searchsorted(sums, share * sums[-1] * (1 - 1e-12))) + 1
    return replace(job, module=replace(job.module, rank=max(1, min(rank, job.module.rank))))


def _delta(source: Source, part: Module) -> Delta:
    """One adapter's update of one module; where it changes the weight itself, what it changes."""
    if source.method.needs(source.adapter) != "weights":
        return source.method.delta(source.adapter, part)
    assert source.base is not None
    weight = work(as_matrix(source.base.read(source.base.weight_of(part)), part))
    updated = source.method.applier(source.adapter, part)(weight, slice(0, part.shape[0]))
    return Dense(updated - weight, _bias_change(source, part))


def _bias_change(source: Source, part: Module) -> Array | None:
    """What becomes of the bias of a layer that has one."""
    assert source.base is not None
    apply = source.method.bias_applier(source.adapter, part)
    name = source.base.name_of(f"{part.name}.bias") if apply else None
    if apply is None or name is None:
        return None
    before = work(source.base.read(name))[part.part * part.shape[0] : (part.part + 1) * part.shape[0]]
    return apply(before) - before


def _zero(module: Module) -> LowRank:
    return LowRank(np.zeros((module.shape[0], 0)), np.zeros((0, module.shape[1])))


def _truncate(delta: Delta, rank: int, rng: np.random.Generator) -> tuple[LowRank, float, float]:
    """The best update of that rank, what it leaves out, and the size of the whole (0 where only rounding is left)."""
    if isinstance(delta, Dense):
        return *leading(delta, rank, rng), norm(delta)
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
        vector = (np.zeros(module.shape[0], WORK) if delta.bias is None else delta.bias).astype(target)
    with np.errstate(over="ignore"):
        stored = LowRank(np.ascontiguousarray(work(delta.B) * delta.scale).astype(target),
                         np.ascontiguousarray(delta.A).astype(target), 1.0, vector)  # fmt: skip
    arrays = [stored.B, stored.A] if vector is None else [stored.B, stored.A, vector]
    if not all(np.isfinite(array).all() for array in arrays):
        raise MergeError(f"the module '{module.key}' came out as NaN or Inf", why=f"its values do not fit {dtype}",
                         fix="--dtype float32, or smaller weights")  # fmt: skip
    return stored


def _placeholder(module: Module, bias: bool) -> LowRank:
    """Arrays of the right shapes that take no memory."""
    rows, columns = module.shape
    zero = np.zeros((), np.int8)
    return LowRank(np.broadcast_to(zero, (rows, module.rank)), np.broadcast_to(zero, (module.rank, columns)), 1.0,
                   np.broadcast_to(zero, (rows,)) if bias else None)  # fmt: skip


def _has_bias(source: Source) -> bool:
    method, view, base = source.method, source.adapter, source.base
    modules = method.modules(view)
    if any(method.needs_bias(view, module) for module in modules):
        return True
    return (
        base is not None
        and method.needs(view) == "weights"
        and any(base.name_of(f"{module.name}.bias") and method.bias_applier(view, module) for module in modules)
    )


def _affordable(recipe: Recipe, jobs: Sequence[_Job], workers: int) -> int:
    """How many modules may be written out at a time; refused before it starts when not even one can."""

    def cost(job: _Job) -> int:
        written = recipe.space == "dense" or any(_rank(*part) >= min(part[1].shape) for part in job.parts)
        return (len(job.parts) + 4) * math.prod(job.module.shape) * np.dtype(WORK).itemsize if written else 0

    most, free = max(map(cost, jobs)), available_memory()
    if most > free:
        worst = max(jobs, key=cost)
        raise BadRecipe(f"merging '{worst.module.key}' in the space 'dense' would take {most / 1e9:.1f} GB",
                        why=f"{free / 1e9:.1f} GB of memory are free", fix="--space core or --space knots")  # fmt: skip
    return max(1, min(workers, free // most)) if most else workers


def available_memory() -> int:
    """The bytes that may be used without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _generator(seed: int, digest: str, module: str) -> np.random.Generator:
    key = sha256(f"{seed}\0{digest}\0{module}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key)))


def _report(recipe: Recipe, jobs: Sequence[_Job], dtype: str, distances: Mapping[str, _Distance],
            dropped: tuple[str, ...]) -> MergeReport:  # fmt: skip
    ranks = {job.module.key: job.module.rank for job in jobs}
    found = [distances[key] for key in ranks]
    error = Loss(relative([d.from_whole for d in found], [d.whole for d in found]),
                 {key: relative([d.from_whole], [d.whole]) for key, d in zip(ranks, found, strict=True)})  # fmt: skip
    from_sum = relative([d.from_sum for d in found], [d.sum for d in found])
    top = max(job.module.rank * job.module.parts for job in jobs)
    return MergeReport(recipe.strategy, recipe.space, top, ranks, dtype, error, from_sum, dropped)
