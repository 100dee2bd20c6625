"""A resolved recipe, made: module by module, into a new adapter directory.

Notable choices:
- one module at a time, several at once: every worker runs its BLAS on one thread, so the bytes do not
  depend on how many workers there are
- when a strategy says its result is a weighted sum, factors are stacked and nothing is computed;
  otherwise its space gives it tensors and takes one back
- every loss that is reported was measured on what is stored, after truncation and rounding
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from adaptkit.adapter import CONFIG, WEIGHTS
from adaptkit.errors import BadRecipe, MergeError, Unmergeable
from adaptkit.extend import Dense, LowRank
from adaptkit.extras import Party, settle_files, settle_settings, settle_tensors
from adaptkit.files import atomic_write
from adaptkit.lowrank import WORK, dense_svd, distance, norm, rounding, stack, sum_biases, svd, work
from adaptkit.recipe import DTYPES
from adaptkit.spaces import view
from adaptkit.tensor_writer import TensorWriter
from adaptkit.tensors import numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from adaptkit.adapter import Adapter
    from adaptkit.extend import AdapterMethod, Delta, MergeStrategy, Module
    from adaptkit.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Source:
    """One adapter of a merge, opened, with the method that reads it; its weight stands in the recipe."""

    adapter: Adapter
    method: AdapterMethod
    digest: str

    @property
    def label(self) -> str:
        return self.adapter.label


@dataclass(frozen=True, slots=True)
class Loss:
    """How far the stored update is from another, relative to it: per module and in total; None is undefined."""

    total: float | None
    modules: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge made: ranks by module, `error` against the untruncated result, `from_sum` against the exact sum."""

    strategy: str
    space: str
    rank: int
    ranks: Mapping[str, int]
    dtype: str
    error: Loss
    from_sum: float | None
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    """One module of the result: who takes part, and the rank it gets."""

    module: Module
    parts: tuple[tuple[Source, Module], ...]


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
    workers: int | None = None,
    done: Callable[[int, int], None] = lambda count, total: None,
) -> MergeReport:
    """Write the merged adapter into `out`, an empty folder; the inputs are only read."""
    method = sources[0].method
    jobs = _plan(recipe, strategy, sources)
    dtype = (
        DTYPES[recipe.dtype]
        if recipe.dtype
        else promote(s.adapter.header[k].dtype for s in sources for k in _delta_keys(s))
    )
    weights = {parent.digest: parent.weight for parent in recipe.sources}
    parties = [Party(s.adapter, s.digest, weights[s.digest]) for s in sources]
    extras = settle_tensors(recipe.extras, parties, [s.method.extras(s.adapter) for s in sources])
    files = settle_files(recipe.extras, parties)
    settings = settle_settings(recipe.extras, parties, method.settings)
    bias = any(_has_bias(s) for s in sources)

    groups: dict[str, list[_Job]] = defaultdict(list)
    for job in jobs:
        groups[job.module.name].append(job)
    layout = {key: (dtype, array.shape) for group in groups.values()
              for key, array in method.pack([(j.module, _placeholder(j.module, bias)) for j in group]).items()}  # fmt: skip
    layout |= {key: (info.dtype, info.shape) for key, info in extras.layout.items()}
    config = method.merged_config([s.adapter for s in sources], [j.module for j in jobs], tuple(extras.layout),
                                  settings.values, bias)  # fmt: skip

    with TensorWriter(out / WEIGHTS, layout) as writer:

        def make(group: list[_Job]) -> list[tuple[str, _Distance]]:
            merged = [_merge_module(recipe, strategy, job, dtype, bias) for job in group]
            for key, array in method.pack([(job.module, m[0]) for job, m in zip(group, merged, strict=True)]).items():
                writer.write(key, array)
            return [(job.module.key, m[1]) for job, m in zip(group, merged, strict=True)]

        distances: dict[str, _Distance] = {}
        with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
            for number, found in enumerate(pool.map(make, groups.values()), 1):
                distances.update(found)
                done(number, len(groups))
        for key in extras.layout:
            writer.write(key, extras.read(key))
        writer.commit()
    for name, content in files.values.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(out / name, content)
    atomic_write(out / CONFIG, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
    return _report(recipe, jobs, dtype, distances, (*extras.dropped, *files.dropped, *settings.dropped))


def promote(dtypes: Iterable[str]) -> str:
    """The dtype that holds all of these, as torch promotes: two different halves give F32."""
    found = set(dtypes)
    if len(found) == 1:
        return found.pop()
    return "F64" if "F64" in found else "F32"


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


def check_methods(sources: Sequence[Source]) -> None:
    """Refuse, by name, what cannot be merged without its base or at all."""
    for source in sources:
        if reason := source.method.unmergeable(source.adapter):
            raise Unmergeable(f"cannot merge {source.label}", why=reason)
        if (needs := source.method.needs(source.adapter)) != "nothing":
            raise Unmergeable(f"cannot merge {source.label}", why=f"its update needs the base's {needs}")
    if not sources[0].method.packs or len({s.method.name for s in sources}) > 1:
        listed = ", ".join(f"{s.label} is {s.method.name}" for s in sources)
        raise Unmergeable("cannot merge across these methods", why=listed, fix="merge adapters of one method")


def _plan(recipe: Recipe, strategy: MergeStrategy[Any], sources: Sequence[Source]) -> list[_Job]:
    """Which adapters take part in which module, and the rank each module gets."""
    check_methods(sources)
    found: dict[str, list[tuple[Source, Module]]] = defaultdict(list)
    for source in sources:
        for module in source.method.modules(source.adapter):
            found[module.key].append((source, module))
    cap = recipe.rank
    if cap is None and strategy.rank_rule == "parents":
        cap = max(module.rank * module.parts for parts in found.values() for _, module in parts)
    jobs = []
    for key in sorted(found):
        parts = found[key]
        first = parts[0][1]
        for source, module in parts[1:]:
            if (module.shape, module.parts) != (first.shape, first.parts):
                raise Unmergeable(f"the module '{key}' has two shapes",
                                  why=f"{list(first.shape)} in {parts[0][0].label}, {list(module.shape)} in {source.label}",
                                  fix="these adapters were trained on different models")  # fmt: skip
        ranks = [module.rank for _, module in parts]
        whole = ranks[0] if recipe.space == "factors" else min(sum(ranks), *first.shape)
        rank = whole if cap is None else min(whole, max(1, cap // first.parts))
        jobs.append(_Job(replace(first, rank=rank), tuple(parts)))
    most = max(sum(m.rank for _, m in job.parts) * job.module.parts for job in jobs)
    if recipe.rank is not None and recipe.rank > most:
        raise BadRecipe(
            f"--rank is {recipe.rank}", why=f"the whole sum has rank {most}", fix="drop --rank to keep it whole"
        )
    return jobs


def _merge_module(
    recipe: Recipe, strategy: MergeStrategy[Any], job: _Job, dtype: str, bias: bool
) -> tuple[LowRank, _Distance]:
    """One module's update as it is stored, and its distances from the untruncated result and the exact sum."""
    module = job.module
    present = {source.digest: (source, part) for source, part in job.parts}
    parents = [p for p in recipe.sources if recipe.missing == "zero" or p.digest in present]
    weights = [parent.weight for parent in parents]
    deltas = [_delta(*present[p.digest]) if p.digest in present else _zero(module) for p in parents]
    params = strategy.params(**recipe.params)
    coefficients = strategy.coefficients(weights, params)
    exact_sum = stack(deltas, weights if coefficients is None else coefficients)
    whole: Delta = exact_sum
    if coefficients is None:
        seen = view(recipe.space, deltas, weights)
        rngs = [_generator(recipe.seed, parent.digest, module.key) for parent in parents]
        rebuilt = seen.rebuild([strategy.merge(tensors, w, params, rngs) for tensors, w in seen.groups])
        whole = replace(rebuilt, bias=sum_biases(deltas, weights))
    kept, residual, size = _truncate(whole, module.rank)
    stored = _cast(kept, dtype, module, bias)
    error = math.hypot(residual, rounding(kept, stored))
    if coefficients is None:
        return stored, _Distance(error, size, distance(stored, exact_sum), norm(exact_sum))
    return stored, _Distance(error, size, error, size)


def _delta(source: Source, part: Module) -> LowRank:
    delta = source.method.delta(source.adapter, part)
    return delta if isinstance(delta, LowRank) else dense_svd(delta).truncated(min(delta.W.shape))[0]


def _zero(module: Module) -> LowRank:
    return LowRank(np.zeros((module.shape[0], 0)), np.zeros((0, module.shape[1])))


def _truncate(delta: Delta, rank: int) -> tuple[LowRank, float, float]:
    """The best update of that rank, what it leaves out, and the size of the whole (0 where only rounding is left)."""
    if isinstance(delta, Dense):
        whole = dense_svd(delta)
        return *whole.truncated(rank), whole.norm
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


def _delta_keys(source: Source) -> list[str]:
    extras = set(source.method.extras(source.adapter))
    return [key for key in source.adapter.header if key not in extras]


def _has_bias(source: Source) -> bool:
    return any(key.endswith(".bias") for key in _delta_keys(source))


def _generator(seed: int, digest: str, module: str) -> np.random.Generator:
    key = sha256(f"{seed}\0{digest}\0{module}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key)))


def _report(recipe: Recipe, jobs: Sequence[_Job], dtype: str, distances: Mapping[str, _Distance],
            dropped: tuple[str, ...]) -> MergeReport:  # fmt: skip
    ranks = {job.module.key: job.module.rank for job in jobs}
    found = [distances[key] for key in ranks]
    error = Loss(_relative([d.from_whole for d in found], [d.whole for d in found]),
                 {key: _relative([d.from_whole], [d.whole]) for key, d in zip(ranks, found, strict=True)})  # fmt: skip
    from_sum = _relative([d.from_sum for d in found], [d.sum for d in found])
    top = max(job.module.rank * job.module.parts for job in jobs)
    return MergeReport(recipe.strategy, recipe.space, top, ranks, dtype, error, from_sum, dropped)


def _relative(apart: Sequence[float], size: Sequence[float]) -> float | None:
    """√Σnum² / √Σden²; 0 when both are 0, None when only the denominator is."""
    num, den = math.sqrt(math.fsum(x * x for x in apart)), math.sqrt(math.fsum(x * x for x in size))
    return num / den if den else None if num else 0.0
