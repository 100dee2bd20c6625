"""Many small updates at once: what numpy asks for each call is more than the work on one expert of a mixture.

Updates of equal shapes are stacked, at most 8 MB at a time, so that a large module is a batch of its own; what needs
care (dependent columns, sums that cancel) is done one by one, as `lowrank` does it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.algebra import lowrank
from adaptkit.algebra.lowrank import WORK, work
from adaptkit.extend import LowRank

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from typing import TypeVar

    from adaptkit.extend import Array, Delta

    Item = TypeVar("Item")

_BYTES = 8 << 20  # of the float64 factors of a batch
_DEPENDENT = 1e-10  # a share of the largest eigenvalue of a Gram matrix


def singular_values(deltas: Sequence[Delta]) -> list[Array]:
    """The singular values of each update, descending."""
    found: list[Array | None] = [None] * len(deltas)
    for batch in _batches(range(len(deltas)), lambda i: _shape(deltas[i])):
        updates = [deltas[i] for i in batch]
        stacked = _stack(updates)
        values = None if stacked is None else _values(*stacked)
        for at, i in enumerate(batch):
            found[i] = lowrank.singular_values(deltas[i]) if values is None else values[at]
    return [one for one in found if one is not None]


def cut(
    sums: Sequence[Sequence[tuple[LowRank, float]]], rank: int, dtype: np.dtype[Any]
) -> list[tuple[LowRank, float, float]] | None:
    """Weighted sums of updates, cut to a rank and cast: each as stored, its error and its size before.

    The sums have equal shapes, equal ranks in total, and no bias. The numbers are those of one by one. None where some
    need care: dependent columns, ranks that are not reached, values that do not fit the dtype.
    """
    B, A = _sums(sums)
    noise = 1e-14 * np.sqrt((B * B).sum(axis=(1, 2)) * (A * A).sum(axis=(1, 2)))
    if A.shape[1] == rank:
        sizes = list(_norms(_t(B) @ B, A @ _t(A), lambda at: LowRank(B[at], A[at])))
        left = [0.0] * len(sums)
    else:
        whole = _svds(B, _t(A), rank)
        if whole is None or whole[1].shape[1] < rank:
            return None
        U, S, Vt = whole
        root = np.sqrt(S[:, :rank])
        B, A = U * root[:, None, :], root[:, :, None] * Vt
        sizes = [float(np.linalg.norm(values)) for values in S]
        left = [float(np.linalg.norm(values[rank:])) for values in S]
    with np.errstate(over="ignore"):
        stored_B, stored_A = B.astype(dtype), A.astype(dtype)
    if not (np.isfinite(stored_B).all() and np.isfinite(stored_A).all()):
        return None
    rounded = _rounding(B, A, work(stored_B), work(stored_A))
    return [
        (
            LowRank(stored_B[at], stored_A[at]),
            math.hypot(left[at], rounded[at]),
            float(sizes[at]) if sizes[at] > noise[at] else 0.0,
        )
        for at in range(len(sums))
    ]


def _rounding(B: Array, A: Array, stored_B: Array, stored_A: Array) -> list[float]:
    """`lowrank.rounding` of each; factors that the dtype holds exactly, as those of an exact sum, cost nothing."""
    moved_B, moved_A = stored_B - B, stored_A - A
    by_B, by_A = moved_B.any(), moved_A.any()
    terms = []
    if by_B:
        terms.append((_t(moved_B) @ moved_B) * (stored_A @ _t(stored_A)))
    if by_A:
        terms.append((_t(B) @ B) * (moved_A @ _t(moved_A)))
    if by_B and by_A:
        terms.append(2.0 * (_t(moved_B) @ B) * (stored_A @ _t(moved_A)))
    return [
        math.sqrt(max(0.0, sum(float(np.sum(term[at])) for term in terms))) for at in range(len(B))
    ]


def _sums(sums: Sequence[Sequence[tuple[LowRank, float]]]) -> tuple[Array, Array]:
    """`lowrank.stack` of each, B·s and A on top of each other."""
    first, rank = sums[0][0][0], sum(delta.rank for delta, _ in sums[0])
    B = np.empty((len(sums), first.B.shape[0], rank), WORK)
    A = np.empty((len(sums), rank, first.A.shape[1]), WORK)
    scales = np.empty((len(sums), 1, rank), WORK)
    for at, terms in enumerate(sums):
        begin = 0
        for delta, weight in terms:
            end = begin + delta.A.shape[0]
            B[at, :, begin:end], A[at, begin:end] = delta.B, delta.A
            scales[at, 0, begin:end] = weight * delta.scale
            begin = end
    B *= scales
    return B, A


def _svds(B: Array, At: Array, rank: int) -> tuple[Array, Array, Array] | None:
    """`lowrank.svd` of each, with so many vectors; None where the columns of one are not independent enough."""
    of_B, of_A = _cholesky_qr(B), _cholesky_qr(At)
    if of_B is None or of_A is None:
        return None
    (Qb, first_b, second_b), (Qa, first_a, second_a) = of_B, of_A
    u, S, vt = np.linalg.svd((second_b @ first_b) @ _t(second_a @ first_a), full_matrices=False)
    U = Qb @ (np.linalg.inv(second_b) @ u[:, :, :rank])
    Vt = (vt[:, :rank] @ _t(np.linalg.inv(second_a))) @ _t(Qa)
    largest = np.argmax(np.abs(U), axis=1)
    signs = np.sign(np.take_along_axis(U, largest[:, None, :], axis=1))[:, 0]
    signs[signs == 0] = 1.0
    return U * signs[:, None, :], S, signs[:, :, None] * Vt


@dataclass(frozen=True, slots=True)
class Relation:
    """How two updates of a module compare: ⟨D₁, D₂⟩, both norms, and the overlap of their row and column spaces."""

    inner: float
    norms: tuple[float, float]
    overlaps: tuple[float, float]
    ranks: tuple[int, int]
    """The larger number of independent rows, and of columns."""


def relations(pairs: Sequence[tuple[LowRank, LowRank]]) -> list[Relation]:
    """The relation of each pair, from Gram matrices alone: O((m+n)R²) a pair."""
    found: dict[int, Relation] = {}
    for batch in _batches(range(len(pairs)), lambda i: (_shape(pairs[i][0]), _shape(pairs[i][1]))):
        one, other = (_stack([pairs[i][side] for i in batch]) for side in (0, 1))
        assert one is not None
        assert other is not None
        (B1, A1), (B2, A2) = one, other
        across_B, across_A = _t(B1) @ B2, _t(A1) @ A2
        inner = np.einsum("kij,kij->k", across_B, across_A)
        grams = [(_t(B) @ B, _t(A) @ A) for B, A in ((B1, A1), (B2, A2))]
        norms = [
            _norms(*gram, [pairs[i][side] for i in batch].__getitem__)
            for side, gram in enumerate(grams)
        ]
        rows, most_rows = _overlap(grams[0][1], grams[1][1], across_A)
        columns, most_columns = _overlap(grams[0][0], grams[1][0], across_B)
        for at, i in enumerate(batch):
            found[i] = Relation(
                float(inner[at]),
                (float(norms[0][at]), float(norms[1][at])),
                (float(rows[at]), float(columns[at])),
                (int(most_rows[at]), int(most_columns[at])),
            )
    return [found[i] for i in range(len(pairs))]


def _batches(items: Sequence[int], kind: Callable[[int], Hashable]) -> Iterator[list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for item in items:
        groups[kind(item)].append(item)
    for shapes, group in groups.items():
        step = max(1, _BYTES // max(1, _size(shapes)))
        for at in range(0, len(group), step):
            yield group[at : at + step]


def _size(shapes: object) -> int:
    return (
        sum(map(_size, shapes))
        if isinstance(shapes, tuple) and isinstance(shapes[0], tuple)
        else 8 * int(np.prod(shapes, dtype=np.int64))  # type: ignore[call-overload]
    )


def _shape(delta: Delta) -> tuple[tuple[int, ...], ...]:
    return (delta.B.shape, delta.A.shape) if isinstance(delta, LowRank) else (delta.W.shape,)


def _stack(deltas: Sequence[Delta]) -> tuple[Array, Array] | None:
    """B·s and Aᵀ of each, on top of each other; None where they are not factors."""
    low = [delta for delta in deltas if isinstance(delta, LowRank)]
    if len(low) < len(deltas):
        return None
    return (
        np.stack([work(delta.B) * delta.scale for delta in low]),
        np.stack([work(delta.A).T for delta in low]),
    )


def _t(stacked: Array) -> Array:
    return stacked.swapaxes(-1, -2)


def _values(B: Array, At: Array) -> Array | None:
    Rb, Ra = _triangles(B), _triangles(At)
    if Rb is None or Ra is None:
        return None
    values: Array = np.linalg.svd(Rb @ _t(Ra), compute_uv=False)
    return values


def _triangles(tall: Array) -> Array | None:
    """The R of each, by `lowrank.thin_qr`'s two rounds; None where one of them is not independent enough."""
    found = _cholesky_qr(tall)
    return None if found is None else found[2] @ found[1]


def _cholesky_qr(tall: Array) -> tuple[Array, Array, Array] | None:
    """Q of the first round and both rounds' R of each; None where the columns of one are not independent enough."""
    if not tall.shape[1] >= tall.shape[2] > 0:
        return None
    try:
        first = _t(np.linalg.cholesky(_t(tall) @ tall))
        Q = tall @ np.linalg.inv(first)
        gram = _t(Q) @ Q
        if not np.abs(gram - np.eye(gram.shape[-1])).max() < 1e-3:
            return None
        second = _t(np.linalg.cholesky(gram))
    except np.linalg.LinAlgError:
        return None
    return Q, first, second


def _norms(of_B: Array, of_A: Array, delta: Callable[[int], LowRank]) -> Array:
    """`lowrank.norm` of each from its Gram matrices; of the update itself where its terms cancel."""
    terms = of_B * of_A
    squares = terms.sum(axis=(1, 2))
    cancel = ~(squares > 1e-3 * np.abs(terms).sum(axis=(1, 2)))
    norms: Array = np.sqrt(np.where(cancel, 0.0, squares))
    for at in np.flatnonzero(cancel):
        norms[at] = lowrank.norm(delta(int(at)))
    return norms


def _overlap(one: Array, other: Array, across: Array) -> tuple[Array, Array]:
    """‖V₁ᵀV₂‖² over the smaller number of directions, and the larger, from both Gram matrices and the products across."""
    left, of_one = _whitened(one)
    right, of_other = _whitened(other)
    shared = (_t(left) @ across @ right) ** 2
    smaller, larger = np.minimum(of_one, of_other), np.maximum(of_one, of_other)
    return np.where(smaller > 0, shared.sum(axis=(1, 2)) / np.maximum(smaller, 1), 0.0), larger


def _whitened(gram: Array) -> tuple[Array, Array]:
    """W with Wᵀ·G·W = 1 on the directions that count, 0 on the others; and how many count."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > values[:, -1:] * _DEPENDENT
    scale = np.where(kept, 1 / np.sqrt(np.where(kept, values, 1.0)), 0.0)
    return vectors * scale[:, None, :], kept.sum(axis=1)
