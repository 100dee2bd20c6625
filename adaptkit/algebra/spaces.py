"""Four views of one module's updates, in which a strategy may work.

Each view gives groups of tensors, one tensor per adapter, with the weights that belong to them, and a
way back from one merged tensor per group to an update. For linear strategies all views but `factors`
give the same result; for elementwise ones they are different algorithms.

- `core`     D_i = U·C_i·Vᵀ in the left singular vectors of the stacked balanced factors: R×R tensors
- `knots`    [D_1|…|D_T] = U·S·[V_1|…|V_T]; tensors S·V_i (Stoica et al., https://arxiv.org/abs/2410.19735)
- `dense`    the m×n updates themselves
- `factors`  A and B apart, as PEFT merges; depends on how an update happens to be written
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adaptkit.algebra.lowrank import WORK, balance, factored, matrix, work
from adaptkit.errors import Unmergeable
from adaptkit.extend import Dense, LowRank

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adaptkit.extend import Array, Delta, Space


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Groups of (tensors, weights), and `rebuild`, which takes one merged tensor per group."""

    groups: tuple[tuple[Sequence[Array], Sequence[float]], ...]
    rebuild: Callable[[Sequence[Array]], Delta]


def view(space: Space, deltas: Sequence[Delta], weights: Sequence[float]) -> View:
    """The updates of one module, seen in a space."""
    return _SPACES[space](deltas, weights)


def _core(deltas: Sequence[Delta], weights: Sequence[float]) -> View:
    balanced = [balance(factored(delta)) for delta in deltas]
    U = _orthonormal(np.concatenate([d.B for d in balanced], axis=1))
    V = _orthonormal(np.concatenate([d.A for d in balanced], axis=0).T)
    cores = [(U.T @ d.B) @ (d.A @ V) for d in balanced]
    return View(((cores, weights),), lambda merged: LowRank(U @ merged[0], V.T))


def _knots(deltas: Sequence[Delta], weights: Sequence[float]) -> View:
    frames, lefts = [], []
    for delta in map(factored, deltas):
        Q, R = np.linalg.qr(work(delta.A).T)
        frames.append(Q.T)
        lefts.append(work(delta.B) @ R.T * delta.scale)
    U, S, W = np.linalg.svd(np.concatenate(lefts, axis=1), full_matrices=False)
    keep = max(1, int(np.count_nonzero(_noise(S, U.shape[0]) < S)))
    U, scaled = U[:, :keep], S[:keep, None] * W[:keep]
    ends = np.cumsum([frame.shape[0] for frame in frames])[:-1]
    tensors = [
        part @ frame for part, frame in zip(np.split(scaled, ends, axis=1), frames, strict=True)
    ]
    return View(((tensors, weights),), lambda merged: LowRank(U, merged[0]))


def _dense(deltas: Sequence[Delta], weights: Sequence[float]) -> View:
    tensors = [matrix(delta) for delta in deltas]
    return View(((tensors, weights),), lambda merged: Dense(merged[0]))


def _factors(updates: Sequence[Delta], weights: Sequence[float]) -> View:
    deltas = [factored(update) for update in updates]
    ranks = [delta.rank for delta in deltas]
    if len(set(ranks)) > 1:
        raise Unmergeable(
            "cannot merge factors of different ranks",
            why=f"the adapters have ranks {ranks}",
            fix="use --strategy linear or svd, which have no such limit",
        )
    # PEFT gives each factor the square root of weight·scale, and the sign to A alone.
    roots = [math.sqrt(abs(w * d.scale)) for w, d in zip(weights, deltas, strict=True)]
    signed = [
        root if w * d.scale >= 0 else -root
        for root, w, d in zip(roots, weights, deltas, strict=True)
    ]
    groups = (([d.A for d in deltas], signed), ([d.B for d in deltas], roots))
    return View(groups, lambda merged: LowRank(merged[1], merged[0]))


_SPACES: Mapping[Space, Callable[[Sequence[Delta], Sequence[float]], View]] = {
    "core": _core,
    "knots": _knots,
    "dense": _dense,
    "factors": _factors,
}


def _orthonormal(stacked: Array) -> Array:
    """The left singular vectors above rounding noise; at least one, so that zero updates keep a shape."""
    U, S, _ = np.linalg.svd(stacked, full_matrices=False)
    return U[:, : max(1, int(np.count_nonzero(_noise(S, stacked.shape[0]) < S)))]


def _noise(S: Array, size: int) -> float:
    return float(S[0] * size * np.finfo(WORK).eps) if S.size else 0.0
