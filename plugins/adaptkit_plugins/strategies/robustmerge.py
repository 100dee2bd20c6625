"""RobustMerge: prune the factors, make up for what each rank-one part lost, share each part out among the adapters.

Small singular values suffer most when updates meet, so they are scaled up (complementary scaling): a part's scale is
what pruning took from its row of A, and the smaller scales are raised. The authors' code then adds A and B apart, which
makes cross terms that belong to no adapter; here every adapter keeps its own product, as in the paper's formula.
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
class Robust:
    """What is kept and how it is scaled."""

    density: float = field(
        default=0.2,
        metadata={"help": "share of the entries of A and of B that is kept", "range": (0.01, 1.0)},
    )
    raised: float = field(
        default=0.8,
        metadata={"help": "share of the parts whose scale is raised", "range": (0.0, 0.99)},
    )
    gain: float = field(
        default=2.0, metadata={"help": "what the result is multiplied by", "range": (0.1, 100.0)}
    )


class RobustMerge(MergeStrategy[Robust]):
    """Pruning, complementary scaling and normalisation across tasks (Zeng et al. 2025)."""

    name: ClassVar[str] = "robustmerge"
    when: ClassVar[str] = "Several tasks whose weak directions are lost when their updates meet."
    formula: ClassVar[str] = (
        "D = gain · Σ wᵢ P(Bᵢ) diag(sᵢ / Σⱼ sⱼ) P(Aᵢ), sᵢ = ‖Aᵢ‖₁/‖P(Aᵢ)‖₁ row by row, the smaller ones raised"
    )
    reference: ClassVar[str] = "https://arxiv.org/abs/2502.17159"
    params: ClassVar[type[Any]] = Robust
    identity_at: ClassVar[float | None] = None
    symmetric: ClassVar[bool] = True
    needs: ClassVar[Literal["nothing", "factors", "moments"]] = "factors"

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: Robust,
        rngs: Sequence[Generator],
    ) -> Array:
        from adaptkit.algebra.lowrank import factors_of, matrix

        return matrix(self.merge_factors(list(map(factors_of, tensors)), weights, params, rngs))

    def merge_factors(
        self,
        deltas: Sequence[LowRank],
        weights: Sequence[float],
        params: Robust,
        rngs: Sequence[Generator],
        moments: Sequence[Moment] = (),
    ) -> LowRank:
        import numpy as np

        from adaptkit.algebra.lowrank import work

        most = max(delta.rank for delta in deltas)
        lefts, rights = [], []
        scales = np.zeros((len(deltas), most))
        for i, delta in enumerate(deltas):
            A = work(delta.A)
            pruned = _pruned(A, params.density)
            rights.append(pruned)
            lefts.append(_pruned(work(delta.B) * delta.scale, params.density))
            left = np.abs(pruned).sum(axis=1)
            ratio = np.divide(np.abs(A).sum(axis=1), left, out=np.ones(len(A)), where=left > 0)
            floor = np.sort(ratio)[int(len(ratio) * params.raised)]
            scales[i, : len(A)] = np.maximum(ratio, floor)
        scales /= scales.sum(axis=0)
        return LowRank(
            np.concatenate(
                [
                    B * (params.gain * w * scales[i, : B.shape[1]])
                    for i, (B, w) in enumerate(zip(lefts, weights, strict=True))
                ],
                axis=1,
            ),
            np.concatenate(rights),
        )


def _pruned(factor: Array, density: float) -> Array:
    """The largest entries of a factor, by magnitude."""
    import math

    from adaptkit.algebra.sparsify import largest

    kept: Array = factor * largest(abs(factor), math.ceil(density * factor.size - 1e-9))
    return kept


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    register(RobustMerge())
