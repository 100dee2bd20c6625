"""Merges that weigh adapters by how far they agree: Model Stock and SCE, on updates."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from adaptkit.extend import MergeStrategy, NoParams, Space
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.random import Generator

    from adaptkit.extend import Array


class ModelStock(MergeStrategy[NoParams]):
    """The mean, drawn to the base by how little the updates agree (Jang et al. 2024)."""

    name: ClassVar[str] = "model_stock"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {"model_stock": {}}
    when: ClassVar[str] = (
        "Several runs of one task: the mean, drawn to the base where they disagree."
    )
    formula: ClassVar[str] = (
        "D = t · (1/N) Σ wᵢDᵢ, t = N c / (1 + (N−1) c), c = mean cosine of the wᵢDᵢ, at least 0"
    )
    reference: ClassVar[str] = "https://arxiv.org/abs/2403.19522"
    spaces: ClassVar[tuple[Space, ...]] = ("core", "knots", "dense")
    arity: ClassVar[tuple[int, int | None]] = (2, None)
    identity_at: ClassVar[float | None] = None
    symmetric: ClassVar[bool] = True

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: NoParams,
        rngs: Sequence[Generator],
    ) -> Array:
        import numpy as np

        terms = [w * t for w, t in zip(weights, tensors, strict=True)]
        norms = [float(np.linalg.norm(term)) for term in terms]
        count = len(terms)
        pairs = list(itertools.combinations(range(count), 2))
        cosines = [
            float(np.vdot(terms[i], terms[j])) / (norms[i] * norms[j])
            if norms[i] * norms[j]
            else 0.0
            for i, j in pairs
        ]
        cosine = max(0.0, sum(cosines) / len(cosines))
        t = count * cosine / (1 + (count - 1) * cosine)
        merged: Array = sum(terms[1:], start=terms[0]) * (t / count)
        return merged


@dataclass(frozen=True, slots=True)
class Select:
    """How much is selected."""

    select_topk: float = field(
        default=1.0,
        metadata={"help": "share of entries kept, those that vary most", "range": (0.0, 1.0)},
    )


class Sce(MergeStrategy[Select]):
    """Select what varies, weigh by energy, erase minority signs (Wan et al. 2024)."""

    name: ClassVar[str] = "sce"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {"sce": {"select_topk": "select_topk"}}
    when: ClassVar[str] = "Adapters of unequal strength; what varies most counts most."
    formula: ClassVar[str] = (
        "D = Σ cᵢ [sgn = sgn Σ] wᵢDᵢ / Σ cᵢ [sgn = sgn Σ], cᵢ = ‖select(wᵢDᵢ)‖² / Σ‖·‖²"
    )
    reference: ClassVar[str] = "https://arxiv.org/abs/2408.07990"
    params: ClassVar[type[Any]] = Select
    spaces: ClassVar[tuple[Space, ...]] = ("dense", "core", "knots")
    symmetric: ClassVar[bool] = True

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: Select,
        rngs: Sequence[Generator],
    ) -> Array:
        import numpy as np

        from adaptkit.algebra.sparsify import largest

        stacked = np.stack([w * t for w, t in zip(weights, tensors, strict=True)])
        if params.select_topk < 1:
            # Tiny differences in the order of a sum must not decide which of two equal entries is kept.
            variance = np.sort(stacked, axis=0).var(axis=0)
            stacked = stacked * largest(
                variance, math.ceil(params.select_topk * variance.size - 1e-9)
            )
        energy = (stacked**2).reshape(len(tensors), -1).sum(axis=1)
        if not energy.sum():
            nothing: Array = 0.0 * stacked[0]
            return nothing
        shares = (energy / energy.sum()).reshape(-1, *[1] * (stacked.ndim - 1))
        agreeing = np.sign(stacked) == np.sign(stacked.sum(axis=0))
        total = (shares * agreeing).sum(axis=0)
        merged: Array = np.divide(
            (shares * agreeing * stacked).sum(axis=0), total, out=0.0 * stacked[0], where=total > 0
        )
        return merged


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    for strategy in (ModelStock(), Sce()):
        register(strategy)
