"""RegMean on updates: the merge whose outputs are closest to each adapter's own, on each adapter's own inputs.

Least squares: D minimises Σᵢ E‖(D − wᵢDᵢ)·xᵢ‖² over the inputs xᵢ of adapter i, of which only the second moments
Gᵢ = E[xᵢxᵢᵀ] are needed. The result lies in the rows AᵢGᵢ(ΣG)⁻¹, so it has the rank of the plain sum and no m×n
matrix is ever formed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adaptkit.extend import LowRank, MergeStrategy
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.random import Generator

    from adaptkit.extend import Array, Moment


@dataclass(frozen=True, slots=True)
class Regression:
    """How far the moments are trusted."""

    alpha: float = field(
        default=0.9,
        metadata={"help": "what off-diagonal moments are multiplied by", "range": (0.0, 1.0)},
    )
    ridge: float = field(
        default=1e-3,
        metadata={
            "help": "λ, as a share of the mean diagonal of Σ G",
            "range": (1e-9, 1e3),
        },
    )


class RegMean(MergeStrategy[Regression]):
    """The least-squares merge of linear maps, each on its own inputs (Jin et al. 2022)."""

    name: ClassVar[str] = "regmean"
    when: ClassVar[str] = (
        "Calibrated adapters (adaptkit calibrate): follows each one on its own inputs."
    )
    formula: ClassVar[str] = (
        "D = (Σ wᵢ Dᵢ Gᵢ)(Σ Gᵢ + λI)⁻¹, Gᵢ = E[x xᵀ] shrunk towards its diagonal"
    )
    reference: ClassVar[str] = "https://arxiv.org/abs/2212.09849"
    params: ClassVar[type[Any]] = Regression
    identity_at: ClassVar[float | None] = None
    symmetric: ClassVar[bool] = True
    needs: ClassVar[Literal["nothing", "factors", "moments"]] = "moments"

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: Regression,
        rngs: Sequence[Generator],
    ) -> Array:
        """The formula with Gᵢ = I: the mean."""
        terms = [w * t for w, t in zip(weights, tensors, strict=True)]
        merged: Array = sum(terms[1:], start=terms[0]) / (len(terms) * (1.0 + params.ridge))
        return merged

    def merge_factors(
        self,
        deltas: Sequence[LowRank],
        weights: Sequence[float],
        params: Regression,
        rngs: Sequence[Generator],
        moments: Sequence[Moment] = (),
    ) -> LowRank:
        import numpy as np

        from adaptkit.algebra.lowrank import work
        from adaptkit.algebra.moments import mean_diagonal, shrunk, solve, times

        trusted = [shrunk(moment, params.alpha) for moment in moments]
        ridge = params.ridge * mean_diagonal(trusted)
        B = np.concatenate(
            [work(d.B) * (w * d.scale) for d, w in zip(deltas, weights, strict=True)], axis=1
        )
        if not ridge:  # inputs that are all zero say nothing, and nothing comes out
            return LowRank(B, np.zeros((B.shape[1], moments[0].diagonal.shape[0])))
        rows = [times(work(d.A), moment) for d, moment in zip(deltas, trusted, strict=True)]
        return LowRank(B, solve(np.concatenate(rows), trusted, ridge))


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    register(RegMean())
