"""Merges through singular values.

TSV, isotropic spectra (Iso-C, Iso-CTS), centred low-rank parts (CART).

A weight multiplies its update before anything else. Singular vectors of a core are those of the
update in the core's frames, so all of them give the same result in every space that keeps inner
products; `core` is the cheapest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from adaptkit.extend import MergeStrategy, NoParams, P, Space
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.random import Generator

    from adaptkit.extend import Array


class Spectral(MergeStrategy[P]):
    """What they share."""

    spaces: ClassVar[tuple[Space, ...]] = ("core", "dense")
    symmetric: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Keep:
    """How much of each spectrum is kept."""

    keep: float = field(
        default=0.0,
        metadata={
            "help": "share of each update's rank kept; 0 is 1/T of T updates",
            "range": (0.0, 1.0),
        },
    )


class Tsv(Spectral[Keep]):
    """Task singular vectors, made orthogonal to each other (Gargiulo et al. 2025)."""

    name: ClassVar[str] = "tsv"
    when: ClassVar[str] = "Unrelated tasks that interfere: their directions are made orthogonal."
    formula: ClassVar[str] = (
        "D = polar([U₁|…|U_T]) · diag(S₁, …, S_T) · polar([V₁|…|V_T])ᵀ, each cut to its leading share"
    )
    reference: ClassVar[str] = "https://arxiv.org/abs/2412.00081"
    params: ClassVar[type[Any]] = Keep

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: Keep,
        rngs: Sequence[Generator],
    ) -> Array:
        import numpy as np

        share = params.keep or 1.0 / len(tensors)
        lefts, values, rights = [], [], []
        for tensor, weight in zip(tensors, weights, strict=True):
            U, S, V = _spectrum(weight * tensor)
            kept = math.ceil(share * S.size - 1e-9)
            lefts.append(U[:, :kept])
            values.append(S[:kept])
            rights.append(V[:, :kept])
        if not sum(S.size for S in values):
            return 0.0 * tensors[0]
        U, V = _polar(np.concatenate(lefts, axis=1)), _polar(np.concatenate(rights, axis=1))
        merged: Array = (U * np.concatenate(values)) @ V.T
        return merged


class IsoC(Spectral[NoParams]):
    """The sum with its singular values made equal (Marczak et al. 2025)."""

    name: ClassVar[str] = "iso_c"
    when: ClassVar[str] = "Many tasks, when strong directions drown the weak ones."
    formula: ClassVar[str] = "D = σ̄ · U Vᵀ, U S Vᵀ = Σ wᵢ Dᵢ, σ̄ = mean of S over its numerical rank"
    reference: ClassVar[str] = "https://arxiv.org/abs/2502.04959"
    identity_at: ClassVar[float | None] = None

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: NoParams,
        rngs: Sequence[Generator],
    ) -> Array:
        U, S, V = _spectrum(_sum(tensors, weights))
        return S.mean() * U @ V.T if S.size else 0.0 * tensors[0]


@dataclass(frozen=True, slots=True)
class Common:
    """How the rank is shared out."""

    common: float = field(
        default=0.8,
        metadata={"help": "share of the rank that the common subspace gets", "range": (0.0, 1.0)},
    )


class IsoCts(Spectral[Common]):
    """Iso-C in a common subspace, completed with each task's directions outside it."""

    name: ClassVar[str] = "iso_cts"
    when: ClassVar[str] = "As iso_c, with directions kept for each task alone."
    formula: ClassVar[str] = (
        "D = σ̄ · polar([U_c|U₁|…]) polar([V_c|V₁|…])ᵀ: common directions of Σ wᵢ Dᵢ, then of each wᵢDᵢ − U_cU_cᵀ wᵢDᵢ"
    )
    reference: ClassVar[str] = "https://arxiv.org/abs/2502.04959"
    params: ClassVar[type[Any]] = Common
    identity_at: ClassVar[float | None] = None

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: Common,
        rngs: Sequence[Generator],
    ) -> Array:
        import numpy as np

        U, S, V = _spectrum(_sum(tensors, weights))
        if not S.size:
            return 0.0 * tensors[0]
        common = max(1, math.ceil(params.common * S.size - 1e-9))
        each = (S.size - common) // len(tensors)
        common = S.size - each * len(tensors)
        U, V, values = U[:, :common], V[:, :common], S[:common]
        lefts, rights, strengths = [U], [V], [values]
        for tensor, weight in zip(tensors, weights, strict=True):
            left, own, right = _spectrum(weight * (tensor - U @ (U.T @ tensor)))
            lefts.append(left[:, :each])
            rights.append(right[:, :each])
            strengths.append(own[:each])
        spectrum = np.concatenate(strengths)
        merged: Array = (
            spectrum.mean()
            * _polar(np.concatenate(lefts, axis=1))
            @ _polar(np.concatenate(rights, axis=1)).T
        )
        return merged


@dataclass(frozen=True, slots=True)
class RankShare:
    """How much of what is left after centring is kept."""

    rank_share: float = field(
        default=0.5,
        metadata={"help": "share of the rank of each update less the mean", "range": (0.0, 1.0)},
    )


class Cart(Spectral[RankShare]):
    """The mean, and the leading part of what sets each update apart from it (Choi et al. 2024)."""

    name: ClassVar[str] = "cart"
    when: ClassVar[str] = "Several tasks around a common mean, at a small rank."
    formula: ClassVar[str] = "D = D̄ + Σ wᵢ cutₖ(Dᵢ − D̄), D̄ = (1/T) Σ Dᵢ, k = share of the rank"
    reference: ClassVar[str] = "https://arxiv.org/abs/2412.12153"
    params: ClassVar[type[Any]] = RankShare

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: RankShare,
        rngs: Sequence[Generator],
    ) -> Array:
        mean = _sum(tensors, [1.0 / len(tensors)] * len(tensors))
        merged = mean
        for tensor, weight in zip(tensors, weights, strict=True):
            U, S, V = _spectrum(tensor - mean)
            kept = math.ceil(params.rank_share * S.size - 1e-9)
            merged = merged + weight * (U[:, :kept] * S[:kept]) @ V[:, :kept].T
        return merged


def _sum(tensors: Sequence[Array], weights: Sequence[float]) -> Array:
    return sum((w * t for w, t in zip(weights, tensors, strict=True)), start=0.0 * tensors[0])


def _spectrum(tensor: Array) -> tuple[Array, Array, Array]:
    """Singular vectors and values above rounding noise.

    On the null space these methods are undefined.
    """
    import numpy as np

    U, S, Vt = np.linalg.svd(tensor, full_matrices=False)
    rank = int(
        np.count_nonzero((S[0] if S.size else 0.0) * max(tensor.shape) * np.finfo(S.dtype).eps < S)
    )
    return U[:, :rank], S[:rank], Vt[:rank].T


def _polar(tall: Array) -> Array:
    """The nearest matrix with orthonormal columns (or rows, when there are more columns)."""
    import numpy as np

    U, _, Vt = np.linalg.svd(tall, full_matrices=False)
    return np.asarray(U @ Vt)


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    for strategy in (Tsv(), IsoC(), IsoCts(), Cart()):
        register(strategy)
