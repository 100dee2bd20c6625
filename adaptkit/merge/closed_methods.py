"""Merging methods that are closed under weighted sums (IA3, LN tuning), one tensor at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.adapters.write import write_companions
from adaptkit.algebra.loss import Loss, relative
from adaptkit.errors import BadRecipe, MergeError, Unmergeable
from adaptkit.extend.artifact_files import WEIGHTS
from adaptkit.io.safetensors.reader import numpy_dtype
from adaptkit.io.safetensors.writer import TensorWriter
from adaptkit.merge.extras import Contributor, resolve_extras
from adaptkit.merge.report import MergeReport, stored_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.extend import Array, MergeStrategy
    from adaptkit.merge.recipe import Recipe


def is_closed_sum(
    recipe: Recipe, strategy: MergeStrategy[Any], sources: Sequence[OpenAdapter]
) -> bool:
    """Whether this merge is a weighted sum of adapters of one method that is closed under sums."""
    method = sources[0].method
    weights = [parent.weight for parent in recipe.sources]
    linear = strategy.coefficients(weights, strategy.params(**recipe.params)) is not None
    return method.closed and linear and all(source.method.name == method.name for source in sources)


def merge_closed(recipe: Recipe, sources: Sequence[OpenAdapter], out: Path) -> MergeReport:
    """Write the merged adapter, of the sources' own method, into `out`, an empty folder."""
    method = sources[0].method
    _check(recipe, sources)
    weights = {parent.digest: parent.weight for parent in recipe.sources}
    settled = resolve_extras(
        recipe.extras,
        [Contributor.of(s, weights[s.digest]) for s in sources],
        [s.extras for s in sources],
        method.settings,
    )
    config = method.combined_config(
        [s.adapter for s in sources], [weights[s.digest] for s in sources]
    ) | dict(settled.settings)
    keys = sorted({key for source in sources for key in source.delta_keys()})
    dtype = stored_dtype(recipe, sources)
    layout = {
        key: (dtype, next(s.adapter.header[key].shape for s in sources if key in s.adapter.header))
        for key in keys
    }
    layout |= {key: (info.dtype, info.shape) for key, info in settled.tensors.layout.items()}
    apart: dict[str, tuple[float, float]] = {}
    with TensorWriter(out / WEIGHTS, layout) as writer:
        for key in keys:
            exact = _combined(key, [s for s in sources if key in s.adapter.header], weights)
            stored = exact.astype(numpy_dtype(dtype))
            if not np.isfinite(stored).all():
                raise MergeError(
                    f"the tensor '{key}' came out as NaN or Inf",
                    why=f"its values do not fit {dtype}",
                    fix="--dtype float32, or smaller weights",
                )
            apart[key] = (
                float(np.linalg.norm(stored.astype(np.float64) - exact)),
                float(np.linalg.norm(exact)),
            )
            writer.write(key, stored)
        for key in settled.tensors.layout:
            writer.write(key, settled.tensors.read(key))
        writer.commit()
    write_companions(out, config, settled.files)
    error = Loss(
        relative([a for a, _ in apart.values()], [size for _, size in apart.values()]),
        {key: relative([a], [size]) for key, (a, size) in apart.items()},
    )
    return MergeReport(
        recipe.strategy, recipe.space, None, {}, dtype, error, error.total, settled.dropped
    )


def _check(recipe: Recipe, sources: Sequence[OpenAdapter]) -> None:
    method = sources[0].method
    if recipe.modules:
        raise BadRecipe(
            f"'{recipe.modules[0].glob}' cannot have a weight of its own",
            why=f"a sum of {method.name} adapters takes one weight for each adapter",
            fix="drop --weight",
        )
    for source in sources:
        if reason := method.unmergeable(source.adapter):
            raise Unmergeable(f"cannot merge {source.label}", why=reason)


def _combined(key: str, owners: Sequence[OpenAdapter], weights: Mapping[str, float]) -> Array:
    """The weighted sum of one tensor of those that have it, before it is stored."""
    tensors = [source.adapter.read(key) for source in owners]
    if len({tensor.shape for tensor in tensors}) > 1:
        raise Unmergeable(
            f"the tensor '{key}' has two shapes",
            why=str([list(tensor.shape) for tensor in tensors]),
            fix="these adapters were trained on different models",
        )
    return owners[0].method.combine(key, tensors, [weights[source.digest] for source in owners])
