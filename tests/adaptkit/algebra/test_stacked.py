"""adaptkit.algebra.stacked: what numpy's dense algebra gives of each update, whatever is stacked with it."""

from __future__ import annotations

import numpy as np
import pytest

from adaptkit.algebra import lowrank, stacked
from adaptkit.algebra.lowrank import matrix
from adaptkit.algebra.stacked import relations, singular_values
from adaptkit.extend import Dense, LowRank


def _update(rng, rows=12, rank=3, columns=9):
    return LowRank(rng.standard_normal((rows, rank)), rng.standard_normal((rank, columns)), 0.5)


@pytest.fixture
def updates():
    """Two shapes, one written out, one of zeros, one with dependent columns."""
    rng = np.random.default_rng(0)
    twice = np.repeat(rng.standard_normal((12, 1)), 3, axis=1)
    return [
        _update(rng),
        _update(rng, 7, 2, 30),
        Dense(rng.standard_normal((4, 6))),
        LowRank(np.zeros((12, 3)), np.ones((3, 9)), 1.0),
        LowRank(twice, rng.standard_normal((3, 9)), 1.0),
        _update(rng, 2, 3, 9),
        _update(rng),
    ]


@pytest.mark.parametrize("room", [64 << 20, 1])
def test_singular_values_are_those_of_the_written_out_matrix(updates, room, monkeypatch):
    monkeypatch.setattr(stacked, "_BYTES", room)
    for update, values in zip(updates, singular_values(updates), strict=True):
        whole = np.linalg.svd(matrix(update), compute_uv=False)
        assert values[: len(whole)] == pytest.approx(whole[: len(values)], abs=1e-12)
        assert (np.diff(values) <= 0).all()


def _overlap(one, other):
    """The projection of the smaller row space onto the larger, by full decompositions."""
    spaces = []
    for rows in (one, other):
        _, size, vectors = np.linalg.svd(rows, full_matrices=False)
        spaces.append(vectors[size > size.max() * 1e-5] if size.max() else vectors[:0])
    smaller = min(map(len, spaces))
    return (
        float(np.sum((spaces[0] @ spaces[1].T) ** 2)) / smaller if smaller else 0.0,
        max(map(len, spaces)),
    )


def test_relations_are_those_of_the_written_out_matrices(updates):
    low = [u for u in updates if isinstance(u, LowRank) and (len(u.B), u.A.shape[1]) == (12, 9)]
    pairs = [(one, other) for one in low for other in low]
    for (one, other), found in zip(pairs, relations(pairs), strict=True):
        D, E = matrix(one), matrix(other)
        assert found.inner == pytest.approx(float(np.vdot(D, E)), abs=1e-9)
        assert found.norms == pytest.approx((np.linalg.norm(D), np.linalg.norm(E)), abs=1e-9)
        rows, columns = _overlap(one.A, other.A), _overlap(one.B.T, other.B.T)
        assert found.overlaps == pytest.approx((rows[0], columns[0]), abs=1e-8)
        assert found.ranks == (rows[1], columns[1])


def test_a_norm_is_exact_where_the_terms_of_an_update_cancel():
    rng = np.random.default_rng(1)
    b, a = rng.standard_normal((12, 1)), rng.standard_normal((1, 9))
    tiny = 1e-9 * rng.standard_normal((12, 1))
    opposed = LowRank(np.concatenate([b, -b + tiny], axis=1), np.concatenate([a, a]), 1.0)
    (found,) = relations([(opposed, opposed)])
    assert found.norms[0] == pytest.approx(float(np.linalg.norm(tiny @ a)), rel=1e-5)


@pytest.mark.parametrize(("rank", "dtype"), [(3, np.float32), (3, np.float16), (6, np.float32)])
def test_updates_cut_together_are_those_cut_one_by_one_to_the_bit(rank, dtype):
    rng = np.random.default_rng(5)
    deltas = [
        LowRank(rng.standard_normal((24, 6), np.float32), rng.standard_normal((6, 17)), 0.5)
        for _ in range(7)
    ]
    together = stacked.cut(_each(*deltas), rank, np.dtype(dtype))
    assert together is not None
    for delta, (stored, error, size) in zip(deltas, together, strict=True):
        whole = lowrank.svd(delta, rank)
        kept, left = (delta, 0.0) if rank == delta.rank else whole.truncated(rank)
        B = (kept.B.astype(np.float64) * kept.scale).astype(dtype)
        A = kept.A.astype(dtype)
        assert np.array_equal(stored.B, B)
        assert np.array_equal(stored.A, A)
        alone = np.hypot(left, lowrank.rounding(kept, LowRank(B, A)))
        assert error == pytest.approx(alone, rel=1e-12)
        assert size == pytest.approx(lowrank.norm(delta), rel=1e-12)


def test_updates_that_need_care_are_not_cut_together():
    rng = np.random.default_rng(6)
    sound = LowRank(rng.standard_normal((8, 4)), rng.standard_normal((4, 8)))
    dependent = LowRank(np.ones((8, 4)), rng.standard_normal((4, 8)))
    huge = LowRank(np.full((8, 4), 1e6), sound.A)
    assert stacked.cut(_each(sound, dependent), 2, np.dtype(np.float32)) is None
    assert stacked.cut(_each(sound, huge), 4, np.dtype(np.float16)) is None
    assert stacked.cut(_each(sound, sound), 2, np.dtype(np.float32)) is not None


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("rank", [3, 5])
def test_sums_are_those_of_stacked_factors_with_every_weight_and_scale(rank, dtype):
    rng = np.random.default_rng(7)
    pairs = [(_update(rng, 12, 2), _update(rng, 12, 3)) for _ in range(4)]
    weights = [0.3, -1.7]
    found = stacked.cut([list(zip(pair, weights, strict=True)) for pair in pairs], rank, dtype)
    assert found is not None
    for pair, (stored, error, size) in zip(pairs, found, strict=True):
        wanted = sum(matrix(delta) * weight for delta, weight in zip(pair, weights, strict=True))
        assert size == pytest.approx(float(np.linalg.norm(wanted)), rel=1e-12)
        assert error == pytest.approx(float(np.linalg.norm(matrix(stored) - wanted)), rel=1e-3)


def test_factors_that_the_dtype_holds_exactly_are_stored_without_an_error():
    rng = np.random.default_rng(8)
    halves = [
        LowRank(rng.integers(-8, 8, (9, 2)) / 4, rng.integers(-8, 8, (2, 7)) / 4, 2.0)
        for _ in range(3)
    ]
    found = stacked.cut(_each(*halves), 2, np.dtype(np.float16))
    assert found is not None
    assert [error for _, error, _ in found] == [0.0, 0.0, 0.0]


def _each(*deltas):
    return [[(delta, 1.0)] for delta in deltas]
