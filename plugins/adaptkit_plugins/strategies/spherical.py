"""Merges that keep lengths: directions are turned towards each other, norms are averaged.

They work on updates. mergekit's strategies of these names work on whole weights, where the base
outweighs every update, so results differ from mergekit's by design. A weight is the share of an
adapter, not a factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from adaptkit.errors import BadRecipe
from adaptkit.extend import MergeStrategy, NoParams, P, Space
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.random import Generator

    from adaptkit.extend import Array

_PARALLEL = 1e-9  # radians below which two directions are one


class Spherical(MergeStrategy[P]):
    """What they share: the spaces, which all keep inner products, and shares that add up to one."""

    spaces: ClassVar[tuple[Space, ...]] = ("core", "knots", "dense")


class Slerp(Spherical[NoParams]):
    """Along the arc between two updates, in their plane's coordinates (Shoemake 1985)."""

    name: ClassVar[str] = "slerp"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {"slerp": {}}
    when: ClassVar[str] = "Two adapters of one task, blended along the arc."
    formula: ClassVar[str] = "D = (sin((1−t)θ) D₁ + sin(tθ) D₂) / sin θ, t = w₂/(w₁+w₂)"
    reference: ClassVar[str] = "https://dl.acm.org/doi/10.1145/325334.325242"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)
    identity_at: ClassVar[float | None] = None
    symmetric: ClassVar[bool] = True

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: NoParams,
        rngs: Sequence[Generator],
    ) -> Array:
        t = _shares(weights)[1]
        one, other = tensors
        left, right = _arc(_angle(one, other), t)
        return left * one + right * other


class NuSlerp(Spherical[NoParams]):
    """The direction along the arc between two updates, at the weighted mean of their norms."""

    name: ClassVar[str] = "nuslerp"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {"nuslerp": {}}
    when: ClassVar[str] = "Two adapters whose norms differ: the blend keeps the mean norm."
    formula: ClassVar[str] = "D = (u₁‖D₁‖ + u₂‖D₂‖) · slerp(D₁/‖D₁‖, D₂/‖D₂‖, u₂), u = w/Σw"
    reference: ClassVar[str] = (
        "https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md"
    )
    arity: ClassVar[tuple[int, int | None]] = (2, 2)
    identity_at: ClassVar[float | None] = None
    symmetric: ClassVar[bool] = True

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: NoParams,
        rngs: Sequence[Generator],
    ) -> Array:
        shares = _shares(weights)
        norms = [_norm(tensor) for tensor in tensors]
        if not all(norms):
            return sum(
                (u * t for u, t in zip(shares, tensors, strict=True)), start=0.0 * tensors[0]
            )
        left, right = _arc(_angle(*tensors), shares[1])
        direction = left * tensors[0] / norms[0] + right * tensors[1] / norms[1]
        return _to_length(direction, sum(u * n for u, n in zip(shares, norms, strict=True)))


@dataclass(frozen=True, slots=True)
class Iterations:
    """When to stop."""

    iterations: int = field(default=50, metadata={"help": "most steps taken", "range": (1, 10_000)})
    tolerance: float = field(
        default=1e-12,
        metadata={"help": "stop when a step is shorter, in radians", "range": (0.0, 1.0)},
    )


class Karcher(Spherical[Iterations]):
    """The mean of directions on the sphere (Karcher 1977), at the weighted mean of the norms."""

    name: ClassVar[str] = "karcher"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "karcher": {"max_iter": "iterations", "tol": "tolerance"}
    }
    when: ClassVar[str] = "Three or more adapters of one task, where a plain mean would shrink."
    formula: ClassVar[str] = (
        "D = Σuᵢ‖Dᵢ‖ · argmin over unit m of Σ uᵢ arccos²⟨m, Dᵢ/‖Dᵢ‖⟩, u = w/Σw"
    )
    reference: ClassVar[str] = "https://doi.org/10.1002/cpa.3160300502"
    params: ClassVar[type[Any]] = Iterations
    symmetric: ClassVar[bool] = True

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: Iterations,
        rngs: Sequence[Generator],
    ) -> Array:
        shares, norms = _shares(weights), [_norm(tensor) for tensor in tensors]
        units = [t / n for t, n in zip(tensors, norms, strict=True) if n]
        pulls = [u for u, n in zip(shares, norms, strict=True) if n]
        start = sum((u * t for u, t in zip(pulls, units, strict=True)), start=0.0 * tensors[0])
        if not units or not _norm(start):
            return start
        mean = start / _norm(start)
        for _ in range(params.iterations):
            step = sum(
                (u * _log(mean, unit) for u, unit in zip(pulls, units, strict=True)),
                start=0.0 * mean,
            )
            size = _norm(step)
            if size <= params.tolerance:
                break
            mean = _unit(math.cos(size) * mean + math.sin(size) * step / size)
        return mean * sum(u * n for u, n in zip(shares, norms, strict=True))


class MultiSlerp(Spherical[NoParams]):
    """One step on the sphere from the mean direction, at the weighted mean of the norms."""

    name: ClassVar[str] = "multislerp"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {"multislerp": {}}
    when: ClassVar[str] = "As karcher, in one step."
    formula: ClassVar[str] = "D = Σuᵢ‖Dᵢ‖ · exp_m(Σ uᵢ log_m(Dᵢ/‖Dᵢ‖)), m = Σuᵢ Dᵢ/‖Dᵢ‖ normalised"
    reference: ClassVar[str] = (
        "https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md"
    )
    symmetric: ClassVar[bool] = True

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: NoParams,
        rngs: Sequence[Generator],
    ) -> Array:
        return Karcher().merge(tensors, weights, Iterations(iterations=1), rngs)


@dataclass(frozen=True, slots=True)
class Nearness:
    """What counts as near."""

    t: float = field(
        default=0.001,
        metadata={"help": "entries this far apart or less are swapped whole", "range": (0.0, 1e9)},
    )


class NearSwap(Spherical[Nearness]):
    """The first update, drawn to the second where they nearly agree; entry by entry."""

    name: ClassVar[str] = "nearswap"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {"nearswap": {"t": "t"}}
    when: ClassVar[str] = "To keep the first adapter, and take the second where both nearly agree."
    formula: ClassVar[str] = "D = (1−λ) w₁D₁ + λ w₂D₂, λ = min(1, t / |w₁D₁ − w₂D₂|) entry by entry"
    reference: ClassVar[str] = "https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001"
    params: ClassVar[type[Any]] = Nearness
    spaces: ClassVar[tuple[Space, ...]] = ("dense", "core", "knots")
    arity: ClassVar[tuple[int, int | None]] = (2, 2)
    identity_at: ClassVar[float | None] = None

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: Nearness,
        rngs: Sequence[Generator],
    ) -> Array:
        import numpy as np

        one, other = (w * t for w, t in zip(weights, tensors, strict=True))
        apart = np.abs(one - other)
        share = np.divide(params.t, apart, out=np.ones_like(apart), where=apart > params.t)
        return one + share * (other - one)


def _shares(weights: Sequence[float]) -> list[float]:
    total = math.fsum(weights)
    if min(weights) < 0 or not total > 0:
        raise BadRecipe(
            f"the weights {list(weights)} are no shares",
            why="on the sphere a weight says how near the result is to an adapter",
            fix="give weights that are not negative",
        )
    return [weight / total for weight in weights]


def _norm(tensor: Array) -> float:
    import numpy as np

    return float(np.linalg.norm(tensor))


def _unit(tensor: Array) -> Array:
    unit: Array = tensor / _norm(tensor)
    return unit


def _to_length(tensor: Array, length: float) -> Array:
    size = _norm(tensor)
    scaled: Array = tensor * (length / size) if size else tensor
    return scaled


def _angle(one: Array, other: Array) -> float:
    """The angle between two tensors, exact for small ones too."""
    size, other_size = _norm(one), _norm(other)
    if not size or not other_size:
        return 0.0
    a, b = one / size, other / other_size
    return 2.0 * math.atan2(_norm(a - b), _norm(a + b))


def _arc(angle: float, t: float) -> tuple[float, float]:
    """The factors of both ends; a straight line where there is no arc, or no single one."""
    if angle < _PARALLEL or math.pi - angle < _PARALLEL:
        return 1.0 - t, t
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def _log(mean: Array, unit: Array) -> Array:
    """The tangent at `mean` that leads to `unit`, as long as the arc."""
    angle = _angle(mean, unit)
    across = unit - mean * float((mean * unit).sum())
    size = _norm(across)
    tangent: Array = across * (angle / size) if size > _PARALLEL else 0.0 * across
    return tangent


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    for strategy in (Slerp(), NuSlerp(), MultiSlerp(), Karcher(), NearSwap()):
        register(strategy)
