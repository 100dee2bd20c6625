"""Least squares without data: each update's own rows stand for its inputs (WUDI, ACTMat).

RegMean with Cᵢ = DᵢᵀDᵢ for the second moment of the inputs: gradient descent leaves updates in the span of what went
in. WUDI minimises Σ ‖(D − Dᵢ)Dᵢᵀ‖²/‖Dᵢ‖² by descent; this is its minimum, in closed form. Where rows overlap much, as
after one seed for several adapters, it mixes what should stay apart: `adaptkit diff` prints the overlap.
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
class Ridge:
    """How much is added to Σ aᵢCᵢ before it is inverted."""

    ridge: float = field(
        default=0.0,
        metadata={
            "help": "share of the largest eigenvalue of Σ aᵢCᵢ; 0 is the pseudo-inverse",
            "range": (0.0, 1.0),
        },
    )


class ActMat(MergeStrategy[Ridge]):
    """Every update counts by its size (ACTMat, 2026)."""

    name: ClassVar[str] = "actmat"
    when: ClassVar[str] = "As wudi, where a larger update should count for more."
    formula: ClassVar[str] = "D = (Σ wᵢ Dᵢ Cᵢ)(Σ Cᵢ + ridge)⁺, Cᵢ = DᵢᵀDᵢ"
    reference: ClassVar[str] = "https://arxiv.org/abs/2604.01329"
    params: ClassVar[type[Any]] = Ridge
    spaces: ClassVar[tuple[Space, ...]] = ("core", "dense")
    symmetric: ClassVar[bool] = True
    alike: ClassVar[bool] = False  # whether updates count alike, whatever their sizes

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: Ridge,
        rngs: Sequence[Generator],
    ) -> Array:
        import numpy as np

        # With M the stacked rows √aᵢDᵢ and K the blocks √aᵢwᵢDᵢDᵢᵀ: D = K M (MᵀM + ridge)⁺, from the SVD of M alone.
        rows, blocks = [], []
        for tensor, weight in zip(tensors, weights, strict=True):
            size = float(np.linalg.norm(tensor))
            root = 1.0 / size if self.alike and size else 1.0
            rows.append(root * tensor)
            blocks.append(root * weight * (tensor @ tensor.T))
        U, S, Vt = np.linalg.svd(np.concatenate(rows), full_matrices=False)
        noise = S[0] * max(len(U), Vt.shape[1]) * np.finfo(S.dtype).eps if S.size else 0.0
        inverse = np.zeros_like(S)
        kept = noise < S
        inverse[kept] = S[kept] / (S[kept] ** 2 + params.ridge * S[0] ** 2)
        merged: Array = (np.concatenate(blocks, axis=1) @ (U * inverse)) @ Vt
        return merged


class Wudi(ActMat):
    """Every update counts alike (Cheng et al. 2025), solved in closed form."""

    name: ClassVar[str] = "wudi"
    when: ClassVar[str] = (
        "Tasks whose rows hardly overlap (see adaptkit diff), when there is no data."
    )
    formula: ClassVar[str] = "D = (Σ wᵢ Dᵢ Cᵢ)(Σ Cᵢ + ridge)⁺, Cᵢ = DᵢᵀDᵢ/‖Dᵢ‖²"
    reference: ClassVar[str] = "https://arxiv.org/abs/2503.08099"
    alike: ClassVar[bool] = True


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    for strategy in (ActMat(), Wudi()):
        register(strategy)
