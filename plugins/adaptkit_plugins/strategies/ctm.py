"""Compress then merge: first the r dimensions that all updates share, then the merge, in r×r coordinates.

A merge that is cut to a rank afterwards keeps what is large in the sum; here every update has its say in which
dimensions are kept. U and V are those of a Tucker-2 decomposition of the stacked updates: started from the leading
directions on each side (HOSVD), improved by turns (HOOI). For that the updates are brought nearer to one size; what
is merged are their own coordinates. An update without a weight has no say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adaptkit.extend import MergeStrategy
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.random import Generator

    from adaptkit.extend import Array

_STILL = 1e-13  # how far a subspace moves that has arrived


@dataclass(frozen=True, slots=True)
class Shared:
    """How large the shared subspaces are, who has a say in them, and what happens inside."""

    dimensions: int = field(
        default=0,
        metadata={
            "help": "of the shared subspaces; 0 is the largest rank of the updates",
            "range": (0, 4096),
        },
    )
    beta: float = field(
        default=0.25,
        metadata={
            "help": "the say of a larger update: 0, all are made equally large; 1, as they are",
            "range": (0.0, 1.0),
        },
    )
    rule: str = field(
        default="ties",
        metadata={"help": "what is done with the coordinates", "choices": ("ties", "sum")},
    )
    density: float = field(
        default=0.25,
        metadata={"help": "share of each one's coordinates that ties keeps", "range": (0.0, 1.0)},
    )
    rounds: int = field(
        default=100,
        metadata={"help": "how often the subspaces are improved at most", "range": (0, 10_000)},
    )


class Ctm(MergeStrategy[Shared]):
    """Compress then merge (He et al. 2026)."""

    name: ClassVar[str] = "ctm"
    when: ClassVar[str] = (
        "A result of the parents' rank, in which small updates count as well as large ones."
    )
    formula: ClassVar[str] = (
        "D = U · rule(Uᵀ wᵢDᵢ V) · Vᵀ, U, V = argmax Σ ‖UᵀD̂ᵢV‖², D̂ᵢ = (β‖Dᵢ‖ + (1−β) mean‖D‖) Dᵢ/‖Dᵢ‖"
    )
    reference: ClassVar[str] = "https://arxiv.org/abs/2606.03723"
    params: ClassVar[type[Any]] = Shared
    identity_at: ClassVar[float | None] = None
    symmetric: ClassVar[bool] = True
    rank_rule: ClassVar[Literal["asked", "parents", "whole"]] = "parents"

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: Shared,
        rngs: Sequence[Generator],
    ) -> Array:
        import numpy as np

        from adaptkit.algebra.sparsify import disjoint, elect, trim

        given = [
            (tensor, weight, float(np.linalg.norm(tensor)))
            for tensor, weight in zip(tensors, weights, strict=True)
            if weight and tensor.any()
        ]
        if not given:
            return 0.0 * tensors[0]
        mean = sum(size for _, _, size in given) / len(given)
        evened = [(params.beta + (1.0 - params.beta) * mean / size) * D for D, _, size in given]
        rank = params.dimensions or max(int(np.linalg.matrix_rank(D)) for D, _, _ in given)
        U, V = _shared(evened, min(rank, *tensors[0].shape), params.rounds)
        terms = [w * (U.T @ D @ V) for D, w, _ in given]
        if params.rule == "ties":
            terms = [trim(term, params.density) for term in terms]
            merged = disjoint(terms, elect(terms))
        else:
            merged = sum(terms[1:], start=terms[0])
        whole: Array = U @ merged @ V.T
        return whole


def _shared(updates: Sequence[Array], rank: int, rounds: int) -> tuple[Array, Array]:
    """Orthonormal U and V of `rank` columns that keep the most of Σ ‖UᵀDᵢV‖²."""
    import numpy as np

    U = _leading(np.concatenate(updates, axis=1), rank)
    V = _leading(np.concatenate([D.T for D in updates], axis=1), rank)
    for _ in range(rounds):
        before = U
        U = _leading(np.concatenate([D @ V for D in updates], axis=1), rank)
        V = _leading(np.concatenate([D.T @ U for D in updates], axis=1), rank)
        if np.linalg.norm(U - before @ (before.T @ U)) < _STILL:
            break
    return U, V


def _leading(wide: Array, rank: int) -> Array:
    """The leading left singular vectors, each turned so that its largest entry is positive."""
    import numpy as np

    U = np.linalg.svd(wide, full_matrices=False)[0][:, :rank]
    largest = U[np.abs(U).argmax(axis=0), np.arange(U.shape[1])]
    turned: Array = U * np.where(largest < 0, -1.0, 1.0)
    return turned


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    register(Ctm())
