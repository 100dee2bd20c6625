"""Singular value calibration: the sum, with directions that several updates share counted once.

The left singular vectors u of the sum stay. The response of update i to u is a = uᵀwᵢDᵢ; where the response of the
whole, projected onto it, is longer than it (s > 1), the direction was counted more than once and its singular value
is divided by the mean of the s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from adaptkit.extend import MergeStrategy, Space
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.random import Generator

    from adaptkit.extend import Array


@dataclass(frozen=True, slots=True)
class Floor:
    """What counts as too much."""

    floor: float = field(
        default=1.0,
        metadata={"help": "the smallest s that is reckoned with", "range": (0.1, 10.0)},
    )


class Svc(MergeStrategy[Floor]):
    """The sum with its singular values recalibrated (Li et al. 2026)."""

    name: ClassVar[str] = "svc"
    when: ClassVar[str] = (
        "Adapters that share directions, which a plain sum would count once for each."
    )
    formula: ClassVar[str] = (
        "D = U diag(γS) Vᵀ, USVᵀ = Σ wᵢDᵢ, γ = T / Σᵢ max(floor, ⟨uᵀΣwD, uᵀwᵢDᵢ⟩/‖uᵀwᵢDᵢ‖²)"
    )
    reference: ClassVar[str] = "https://arxiv.org/abs/2602.05536"
    params: ClassVar[type[Any]] = Floor
    spaces: ClassVar[tuple[Space, ...]] = ("core", "dense")
    symmetric: ClassVar[bool] = True

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: Floor,
        rngs: Sequence[Generator],
    ) -> Array:
        import numpy as np

        terms = [w * t for w, t in zip(weights, tensors, strict=True)]
        total = sum(terms[1:], start=terms[0])
        U, S, Vt = np.linalg.svd(total, full_matrices=False)
        noise = S[0] * max(total.shape) * np.finfo(S.dtype).eps if S.size else 0.0
        kept = int(np.count_nonzero(noise < S))
        U, S, Vt = U[:, :kept], S[:kept], Vt[:kept]
        excess = np.zeros(kept)
        for term in terms:
            response = U.T @ term
            inner = S * np.einsum("rj,rj->r", Vt, response)
            size = np.einsum("rj,rj->r", response, response)
            # A direction that an update does not respond to is not counted twice on its account.
            heard = size > (noise**2 if noise else 0.0)
            ratio = np.divide(inner, size, out=np.ones(kept), where=heard)
            excess += np.maximum(params.floor, ratio)
        merged: Array = (U * (S * len(terms) / excess)) @ Vt
        return merged


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    register(Svc())
