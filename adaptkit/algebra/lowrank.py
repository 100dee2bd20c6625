"""The algebra of D = s·B·A, without ever forming the m×n matrix. Public, for strategies.

Notable choices:
- everything is worked in float64: on tall factors LAPACK is as fast there as in float32, truncation
  is then optimal to rounding, and losses as small as a stored dtype's rounding can be measured
- the SVD of D costs two QRs and the SVD of an R×R core: O((m+n)R²) instead of O(mn·min(m, n))
- signs and order are fixed: singular values descend, and the entry of largest modulus in each left
  vector is positive (the first one, where several are equal)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adaptkit.extend import Dense, LowRank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.extend import Array, Delta

WORK = np.float64


@dataclass(frozen=True, slots=True, eq=False)
class Svd:
    """D = U·diag(S)·Vt with orthonormal U (m×R) and Vt (R×n), S descending; `bias` rides along."""

    U: Array
    S: Array
    Vt: Array
    bias: Array | None = None

    @property
    def norm(self) -> float:
        """The Frobenius norm of D."""
        return float(np.linalg.norm(self.S))

    def numerical_rank(self) -> int:
        """How many singular values are above rounding noise, as numpy.linalg.matrix_rank counts."""
        if self.S.size == 0:
            return 0
        noise = self.S[0] * max(self.U.shape[0], self.Vt.shape[1]) * np.finfo(WORK).eps
        return int(np.count_nonzero(noise < self.S))

    def truncated(self, rank: int) -> tuple[LowRank, float]:
        """The best approximation of that rank as balanced factors, and the Frobenius norm of what it leaves out.

        Missing singular values are padded with zeros, so that the factors always have `rank` columns.
        """
        kept = min(rank, self.S.size)
        root = np.sqrt(self.S[:kept])
        B = np.zeros((self.U.shape[0], rank), WORK)
        A = np.zeros((rank, self.Vt.shape[1]), WORK)
        B[:, :kept] = self.U[:, :kept] * root
        A[:kept] = root[:, None] * self.Vt[:kept]
        return LowRank(B, A, 1.0, self.bias), float(np.linalg.norm(self.S[kept:]))


def work(array: Array) -> Array:
    """The array in the working precision."""
    return array.astype(WORK, copy=False)


def stack(deltas: Sequence[LowRank], weights: Sequence[float]) -> LowRank:
    """The exact sum Σ wᵢ·Dᵢ at rank Σrᵢ: B = [wᵢsᵢBᵢ], A = [Aᵢ]; copying and scaling only."""
    B = np.concatenate(
        [work(d.B) * (w * d.scale) for d, w in zip(deltas, weights, strict=True)], axis=1
    )
    A = np.concatenate([work(d.A) for d in deltas], axis=0)
    return LowRank(B, A, 1.0, sum_biases(deltas, weights))


def sum_biases(deltas: Sequence[Delta], weights: Sequence[float]) -> Array | None:
    """Σ wᵢ·biasᵢ over those that have one (a LowRank's bias is scaled like its product)."""
    terms = [
        work(d.bias) * (w * (d.scale if isinstance(d, LowRank) else 1.0))
        for d, w in zip(deltas, weights, strict=True)
        if d.bias is not None
    ]
    return sum(terms[1:], start=terms[0]) if terms else None


def svd(delta: LowRank, vectors: int | None = None) -> Svd:
    """The singular value decomposition of D from two thin QRs and one small core.

    `vectors` bounds how many of U and Vt are made: the first, all singular values nevertheless.
    """
    Qb, to_b, Rb = _factored_qr(work(delta.B) * delta.scale)
    Qa, to_a, Ra = _factored_qr(work(delta.A).T)
    u, S, vt = np.linalg.svd(Rb @ Ra.T, full_matrices=False)
    U, Vt = Qb @ (to_b @ u[:, :vectors]), (vt[:vectors] @ to_a.T) @ Qa.T
    return Svd(*_fix_signs(U, S, Vt), _scaled_bias(delta))


def singular_values(delta: Delta) -> Array:
    """The singular values of D, descending, without its vectors."""
    if isinstance(delta, Dense):
        return np.linalg.svd(work(delta.W), compute_uv=False)
    Rb, Ra = triangle(work(delta.B) * delta.scale), triangle(work(delta.A).T)
    return np.linalg.svd(Rb @ Ra.T, compute_uv=False)


def triangle(tall: Array) -> Array:
    """The R of `thin_qr` without Q's last product."""
    found = _cholesky_qr(tall)
    return np.linalg.qr(tall)[1] if found is None else found[2] @ found[1]


def thin_qr(tall: Array) -> tuple[Array, Array]:
    """Q with orthonormal columns and R, tall = Q·R, to rounding.

    Two rounds of Cholesky QR, which are matrix products and three times as fast as Householder's on tall
    factors (Yamamoto et al. 2015, https://doi.org/10.1553/etna_vol44s306). The first round shows whether the
    columns are independent enough for the second to be exact; where they are not, Householder's does it.
    """
    Q, to_orthonormal, R = _factored_qr(tall)
    return Q @ to_orthonormal, R


def _factored_qr(tall: Array) -> tuple[Array, Array, Array]:
    """Q, a small matrix that makes its columns orthonormal to rounding, and R: tall = (Q·small)·R."""
    found = _cholesky_qr(tall)
    if found is None:
        Q, R = np.linalg.qr(tall)
        return Q, np.eye(Q.shape[1]), R
    Q, first, second = found
    return Q, np.linalg.inv(second), second @ first


def _cholesky_qr(tall: Array) -> tuple[Array, Array, Array] | None:
    """Q of the first round and both rounds' R; None where the columns are not independent enough."""
    if tall.shape[0] >= tall.shape[1] > 0:
        try:
            first = np.linalg.cholesky(tall.T @ tall).T
            Q = tall @ np.linalg.inv(first)
            gram = Q.T @ Q
            if np.abs(gram - np.eye(gram.shape[0])).max() < 1e-3:
                return Q, first, np.linalg.cholesky(gram).T
        except np.linalg.LinAlgError:
            pass  # dependent columns
    return None


def dense_svd(delta: Dense) -> Svd:
    """The singular value decomposition of an update that is written out."""
    u, S, vt = np.linalg.svd(work(delta.W), full_matrices=False)
    return Svd(*_fix_signs(u, S, vt), delta.bias)


def factors_of(W: Array) -> LowRank:
    """Balanced factors of a matrix, with as many columns as its numerical rank, at least one."""
    found = dense_svd(Dense(W))
    return found.truncated(max(1, found.numerical_rank()))[0]


def balance(delta: LowRank) -> LowRank:
    """The same update with factors that depend on D alone: B = U√S, A = √S·Vᵀ."""
    return svd(delta).truncated(min(delta.rank, *(delta.B.shape[0], delta.A.shape[1])))[0]


def norm(delta: Delta) -> float:
    """The Frobenius norm of D, without cancellation between terms that oppose each other."""
    if isinstance(delta, Dense):
        return float(np.linalg.norm(work(delta.W)))
    B, A = work(delta.B) * delta.scale, work(delta.A)
    # ‖BA‖² from the Gram matrices is exact to 1e-13 while its terms do not cancel; where they do, QR is.
    terms = (B.T @ B) * (A @ A.T)
    square = float(terms.sum())
    if square > 1e-3 * float(np.abs(terms).sum()):
        return math.sqrt(square)
    Rb, Ra = thin_qr(B)[1], thin_qr(A.T)[1]
    return float(np.linalg.norm(Rb @ Ra.T))


def distance(one: Delta, other: Delta) -> float:
    """The Frobenius distance of two updates."""
    return norm(add([one, other], [1.0, -1.0]))


def add(deltas: Sequence[Delta], weights: Sequence[float]) -> Delta:
    """The exact sum Σ wᵢ·Dᵢ: stacked factors, or written out where one of them is."""
    low = [d for d in deltas if isinstance(d, LowRank)]
    if len(low) == len(deltas):
        return stack(low, weights)
    total = sum(
        (matrix(d) * w for d, w in zip(deltas, weights, strict=True)), start=np.zeros((1, 1))
    )
    return Dense(total, sum_biases(deltas, weights))


def matrix(delta: Delta) -> Array:
    """The update written out, m×n."""
    return (
        work(delta.W) if isinstance(delta, Dense) else (work(delta.B) * delta.scale) @ work(delta.A)
    )


def factored(delta: Delta) -> LowRank:
    """The same update as factors; a written-out one costs a full singular value decomposition."""
    return (
        delta if isinstance(delta, LowRank) else dense_svd(delta).truncated(min(delta.W.shape))[0]
    )


def leading(delta: Dense, rank: int, rng: np.random.Generator) -> tuple[LowRank, float]:
    """The best approximation of that rank of an update written out, and what it leaves out.

    Randomised with power iterations (Halko, Martinsson, Tropp 2011, https://arxiv.org/abs/0909.4061), four of which
    were as good as the full decomposition on merged updates; that is used where it costs little more.
    """
    W = work(delta.W)
    wide = rank + 16
    if 3 * wide >= min(W.shape):
        return dense_svd(delta).truncated(rank)
    Q, _ = np.linalg.qr(W @ rng.standard_normal((W.shape[1], wide)))
    for _ in range(4):
        Q, _ = np.linalg.qr(W.T @ Q)
        Q, _ = np.linalg.qr(W @ Q)
    u, S, vt = np.linalg.svd(Q.T @ W, full_matrices=False)
    kept, _ = Svd(*_fix_signs(Q @ u, S, vt), delta.bias).truncated(rank)
    return kept, float(np.linalg.norm(W - kept.B @ kept.A))


def rounding(exact: LowRank, stored: LowRank) -> float:
    """‖B'A' − BA‖ where B', A' are B, A after a cast: exact to first order in the rounding, from Gram matrices.

    B'A' − BA = (B'−B)·A' + B·(A'−A), and both differences are small, so nothing cancels. A factor that the dtype
    holds exactly costs nothing.
    """
    B, A = work(exact.B) * exact.scale, work(exact.A)
    stored_B, stored_A = work(stored.B) * stored.scale, work(stored.A)
    moved_B, moved_A = stored_B - B, stored_A - A
    by_B, by_A = moved_B.any(), moved_A.any()
    square = 0.0
    if by_B:
        square += float(np.sum((moved_B.T @ moved_B) * (stored_A @ stored_A.T)))
    if by_A:
        square += float(np.sum((B.T @ B) * (moved_A @ moved_A.T)))
    if by_B and by_A:
        square += float(np.sum(2.0 * (moved_B.T @ B) * (stored_A @ moved_A.T)))
    return math.sqrt(max(0.0, square))


def _fix_signs(U: Array, S: Array, Vt: Array) -> tuple[Array, Array, Array]:
    if not S.size:
        return U, S, Vt
    signs = np.sign(U[np.argmax(np.abs(U), axis=0), np.arange(U.shape[1])])
    signs[signs == 0] = 1.0
    return U * signs, S, signs[:, None] * Vt


def _scaled_bias(delta: LowRank) -> Array | None:
    return None if delta.bias is None else work(delta.bias) * delta.scale
