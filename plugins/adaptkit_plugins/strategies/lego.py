"""LoRA-LEGO: every rank-one part of every update is a unit; like units are clustered, each cluster becomes one unit.

Adapters of different ranks merge without padding. Units are compared by direction (b and a each of length one), the
centroid is the mean of the units themselves, made as large (in its largest entry) as they are on average.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adaptkit.extend import LowRank, MergeStrategy
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.random import Generator

    from adaptkit.extend import Array, Moment

_ROUNDS = 100  # of k-means; it ends when nothing moves


@dataclass(frozen=True, slots=True)
class Units:
    """How many units the result has."""

    units: int = field(
        default=0,
        metadata={"help": "clusters; 0 is the largest rank of the adapters", "range": (0, 4096)},
    )


class Lego(MergeStrategy[Units]):
    """Rank-wise clustering of units (Zhao et al. 2024)."""

    name: ClassVar[str] = "lego"
    when: ClassVar[str] = (
        "Adapters of different ranks, some of whose rank-one parts do the same thing."
    )
    formula: ClassVar[str] = (
        "D = √(r/k) Σ_c b_c a_cᵀ over k clusters of the units (b, a) of all wᵢDᵢ, (b_c, a_c) = mean · mean‖·‖∞/‖mean‖∞"
    )
    reference: ClassVar[str] = "https://arxiv.org/abs/2409.16167"
    params: ClassVar[type[Any]] = Units
    symmetric: ClassVar[bool] = True
    rank_rule: ClassVar[Literal["asked", "parents", "whole"]] = "parents"
    needs: ClassVar[Literal["nothing", "factors", "moments"]] = "factors"

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: Units,
        rngs: Sequence[Generator],
    ) -> Array:
        from adaptkit.algebra.lowrank import factors_of, matrix

        return matrix(self.merge_factors(list(map(factors_of, tensors)), weights, params, rngs))

    def merge_factors(
        self,
        deltas: Sequence[LowRank],
        weights: Sequence[float],
        params: Units,
        rngs: Sequence[Generator],
        moments: Sequence[Moment] = (),
    ) -> LowRank:
        import numpy as np

        from adaptkit.algebra.lowrank import work

        rank = max(delta.rank for delta in deltas)
        sizes, units, draws = deltas[0].B.shape[0], [], []
        for delta, weight, rng in zip(deltas, weights, rngs, strict=True):
            B, A = work(delta.B) * (weight * delta.scale), work(delta.A)
            units.append(np.concatenate([B, A.T]).T)
            draws.append(rng.random(delta.rank))
        stacked = np.concatenate(units)
        real = (
            np.linalg.norm(stacked[:, :sizes], axis=1) > 0
        )  # padding and weight zero are no units
        stacked, order = stacked[real], np.concatenate(draws)[real]
        count = min(params.units or rank, len(stacked))
        if not count:
            return LowRank(np.zeros((sizes, 1)), np.zeros((1, stacked.shape[1] - sizes)))
        apart = np.concatenate([_unit(stacked[:, :sizes]), _unit(stacked[:, sizes:])], axis=1)
        labels = _cluster(apart, np.argsort(order)[:count])
        centroids = []
        for label in range(count):
            members = stacked[labels == label]
            mean = members.mean(axis=0)
            largest = np.abs(mean).max()
            centroids.append(
                mean * (np.abs(members).max(axis=1).mean() / largest if largest else 1)
            )
        merged = np.stack(centroids) * math.sqrt(math.sqrt(rank / (params.units or rank)))
        return LowRank(merged[:, :sizes].T, merged[:, sizes:])


def _unit(rows: Array) -> Array:
    import numpy as np

    sizes = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Array = rows / np.where(sizes > 0, sizes, 1.0)
    return unit


def _cluster(points: Array, start: Array) -> Array:
    """k-means from the given points; a cluster that loses all its points takes the one farthest from its own."""
    import numpy as np

    centres = points[start]
    labels = np.full(len(points), -1)
    for _ in range(_ROUNDS):
        apart = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
        new = apart.argmin(axis=1)
        for label in np.setdiff1d(np.arange(len(centres)), new):
            own = apart[np.arange(len(points)), new] * (
                np.bincount(new, minlength=len(centres))[new] > 1
            )
            new[own.argmax()] = label
        if (new == labels).all():
            break
        labels = new
        centres = np.stack([points[labels == i].mean(axis=0) for i in range(len(centres))])
    return labels


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    register(Lego())
