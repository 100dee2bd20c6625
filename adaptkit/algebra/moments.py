"""Second moments G = E[x xᵀ] of a module's inputs, kept as diag(d) + F·Fᵀ: measured, stored and inverted without n×n.

Notable choices:
- the diagonal of G is exact whatever the rank: what the leading directions leave out stays on the diagonal
- a stream of inputs is kept as few rows with the same Gram matrix, cut to the leading ones when they grow too many;
  nothing is cut up to `2·rank` dimensions, or before `4·rank` rows have been seen
- (Σ G + λI)⁻¹ comes from the Woodbury identity on the stacked factors, O(n k²) for k columns in all
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from adaptkit.algebra.lowrank import WORK, work
from adaptkit.extend import Moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.extend import Array

RANK = 64


class Sketch:
    """The second moment of a stream of inputs of `size` numbers each, in O(size · rank) memory."""

    def __init__(self, size: int, rank: int = RANK) -> None:
        self.size, self.rank, self.count = size, rank, 0
        self._diagonal = np.zeros(size, WORK)
        self._rows = np.zeros((0, size), WORK)

    def add(self, inputs: Array) -> None:
        """Take in inputs, one a row."""
        rows = work(inputs)
        self.count += rows.shape[0]
        self._diagonal += np.einsum("ij,ij->j", rows, rows)
        self._rows = np.concatenate([self._rows, rows])
        if self._rows.shape[0] > 4 * self.rank:
            self._rows = _leading_rows(self._rows, 2 * self.rank)

    def moment(self) -> Moment:
        """What was seen so far, as its leading directions and the rest on the diagonal."""
        scale = 1.0 / math.sqrt(max(1, self.count))
        factor = _leading_rows(self._rows, self.rank).T * scale
        return with_diagonal(self._diagonal * scale**2, factor)


def with_diagonal(diagonal: Array, factor: Array) -> Moment:
    """The moment with that diagonal, as far as the factor leaves room for it."""
    rest = work(diagonal) - np.einsum("ij,ij->i", work(factor), work(factor))
    return Moment(np.maximum(rest, 0.0), factor)


def written_out(moment: Moment) -> Array:
    """The n×n matrix itself."""
    factor = work(moment.factor)
    found: Array = np.diag(work(moment.diagonal)) + factor @ factor.T
    return found


def shrunk(moment: Moment, alpha: float) -> Moment:
    """α·G + (1 − α)·diag(G): off-diagonal entries times α."""
    factor = work(moment.factor)
    whole = work(moment.diagonal) + np.einsum("ij,ij->i", factor, factor)
    diagonal = alpha * work(moment.diagonal) + (1.0 - alpha) * whole
    return Moment(diagonal, math.sqrt(alpha) * factor)


def times(rows: Array, moment: Moment) -> Array:
    """`rows`·G."""
    factor = work(moment.factor)
    found: Array = rows * work(moment.diagonal) + (rows @ factor) @ factor.T
    return found


def mean_diagonal(moments: Sequence[Moment]) -> float:
    """The mean of the diagonal of Σ G."""
    traces = [
        float(work(one.diagonal).sum()) + float(np.sum(work(one.factor) ** 2)) for one in moments
    ]
    size: int = moments[0].diagonal.shape[0]
    return math.fsum(traces) / max(1, size)


def solve(rows: Array, moments: Sequence[Moment], ridge: float) -> Array:
    """`rows`·(Σ G + ridge·I)⁻¹, for a ridge above zero."""
    size = moments[0].diagonal.shape[0]
    diagonal = np.full(size, ridge, WORK)
    for one in moments:
        diagonal += one.diagonal
    root = np.sqrt(diagonal)
    # With H = root⁻¹·F, root·(I + HHᵀ)·root is the whole; H.T @ H is one half of a matrix product (syrk).
    H = np.empty((size, sum(one.factor.shape[1] for one in moments)), WORK)
    at = 0
    for one in moments:
        columns = one.factor.shape[1]
        np.divide(one.factor, root[:, None], out=H[:, at : at + columns])
        at += columns
    first = rows / root
    core = np.eye(H.shape[1]) + H.T @ H
    found: Array = (first - np.linalg.solve(core, (first @ H).T).T @ H.T) / root
    return found


def _leading_rows(rows: Array, most: int) -> Array:
    """At most so many rows with the Gram matrix of all, as near as that many can come to it."""
    if rows.shape[0] <= most:
        return rows
    if rows.shape[1] <= most:
        return np.linalg.qr(rows)[1]
    _, vectors = np.linalg.eigh(rows @ rows.T)
    found: Array = vectors[:, ::-1][:, :most].T @ rows
    return found
