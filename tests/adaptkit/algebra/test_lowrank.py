"""The algebra against matrices written out in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptkit.algebra import lowrank
from adaptkit.extend import Dense, LowRank


def draw(seed, m, n, r, scale=1.0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return LowRank(
        rng.standard_normal((m, r)).astype(dtype), rng.standard_normal((r, n)).astype(dtype), scale
    )


def full(delta):
    return delta.scale * delta.B.astype(np.float64) @ delta.A.astype(np.float64)


shapes = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 12))


@given(shapes, st.integers(0, 99), st.floats(-3, 3), st.floats(-3, 3))
def test_stacking_is_the_weighted_sum(shape, seed, w, v):
    m, n, r = shape
    one, two = draw(seed, m, n, r, 2.0), draw(seed + 1, m, n, r + 1, 0.5)
    stacked = lowrank.stack([one, two], [w, v])
    assert stacked.rank == 2 * r + 1
    assert np.allclose(
        full(stacked), w * full(one) + v * full(two), atol=1e-12 * (1 + abs(w) + abs(v)) * 100
    )


@given(shapes, st.integers(0, 99), st.integers(1, 14))
def test_truncation_is_the_optimum_also_where_the_rank_exceeds_the_module(shape, seed, k):
    m, n, r = shape
    delta = draw(seed, m, n, r)
    kept, residual = lowrank.svd(delta).truncated(k)
    U, S, Vt = np.linalg.svd(full(delta))
    j = min(k, m, n)
    assert kept.B.shape == (m, k)
    assert kept.A.shape == (k, n)
    assert np.allclose(full(kept), (U[:, :j] * S[:j]) @ Vt[:j], atol=1e-9 * S[0])
    assert residual == pytest.approx(np.linalg.norm(S[j:]), abs=1e-9 * S[0])


@pytest.mark.parametrize("power", [0, -3, -6, -8, -12, -300])
def test_thin_qr_is_orthonormal_however_dependent_the_columns(power):
    rng = np.random.default_rng(1)
    tall = (
        rng.standard_normal((200, 8))
        @ np.diag(np.logspace(0, power, 8))
        @ rng.standard_normal((8, 8))
    )
    Q, R = lowrank.thin_qr(tall)
    assert np.abs(Q.T @ Q - np.eye(8)).max() < 1e-12
    assert np.abs(Q @ R - tall).max() < 1e-12 * np.abs(tall).max()


def test_thin_qr_takes_zeros_twins_nothing_and_the_wide():
    for tall in (np.zeros((5, 2)), np.ones((6, 3)), np.zeros((4, 0)), np.ones((2, 5))):
        Q, R = lowrank.thin_qr(tall)
        assert np.allclose(Q @ R, tall)


def test_signs_and_order_are_fixed():
    delta = draw(3, 12, 9, 4)
    flipped = LowRank(-delta.B[:, ::-1], -delta.A[::-1])
    one, two = lowrank.svd(delta), lowrank.svd(flipped)
    assert np.all(np.diff(one.S) <= 0)
    assert np.allclose(one.U[:, :4], two.U[:, :4], atol=1e-10)
    assert np.allclose(one.Vt[:4], two.Vt[:4], atol=1e-10)


def test_balancing_depends_on_the_update_and_not_on_how_it_is_written():
    delta = draw(4, 10, 7, 3, dtype=np.float64)
    rewritten = LowRank(8 * delta.B, delta.A / 8)
    one, two = lowrank.balance(delta), lowrank.balance(rewritten)
    assert np.allclose(one.B, two.B, atol=1e-12)
    assert np.allclose(one.A, two.A, atol=1e-12)
    assert np.allclose(full(one), full(delta))


def test_distance_and_norm_are_those_of_the_matrices():
    one, two = draw(5, 11, 13, 3, 2.0), draw(6, 11, 13, 5)
    assert lowrank.norm(one) == pytest.approx(np.linalg.norm(full(one)), rel=1e-12)
    assert lowrank.distance(one, two) == pytest.approx(
        np.linalg.norm(full(one) - full(two)), rel=1e-12
    )


def test_the_loss_of_a_cast_is_exact_to_its_own_size():
    exact = draw(7, 40, 30, 4, dtype=np.float64)
    stored = LowRank(exact.B.astype(np.float32), exact.A.astype(np.float32))
    wanted = np.linalg.norm(full(stored) - full(exact))
    assert lowrank.rounding(exact, stored) == pytest.approx(wanted, rel=1e-4)


def test_a_dense_update_is_factored_and_biases_add_up():
    W = np.arange(12.0).reshape(3, 4)
    kept, residual = lowrank.dense_svd(Dense(W, np.ones(3))).truncated(3)
    assert np.allclose(full(kept), W)
    assert residual == pytest.approx(0, abs=1e-12)
    one = LowRank(np.ones((3, 1)), np.ones((1, 4)), 2.0, np.array([1.0, 2, 3]))
    assert np.allclose(lowrank.sum_biases([one, Dense(W, np.ones(3))], [0.5, 3.0]), [4, 5, 6])
    assert lowrank.sum_biases([draw(1, 3, 4, 1)], [1.0]) is None


def test_a_matrix_is_factored_at_its_rank_and_zeros_at_rank_one():
    W = full(draw(4, 7, 5, 2))
    found = lowrank.factors_of(W)
    assert found.rank == 2
    assert np.allclose(full(found), W, atol=1e-12)
    assert lowrank.factors_of(np.zeros((3, 4))).rank == 1
