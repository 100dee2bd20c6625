"""adaptkit_plugins.strategies.regmean against the formula with every matrix written out."""

from __future__ import annotations

import numpy as np
import pytest

from adaptkit.algebra.lowrank import matrix
from adaptkit.algebra.moments import Sketch
from adaptkit.extend import LowRank, Moment
from adaptkit.testing import StrategyConformance
from adaptkit_plugins.strategies.regmean import RegMean, Regression


class TestConformance(StrategyConformance):
    @pytest.fixture
    def strategy(self):
        return RegMean()


def update(rank, seed, shape=(7, 11)):
    rng = np.random.default_rng(seed)
    return LowRank(
        rng.standard_normal((shape[0], rank)), rng.standard_normal((rank, shape[1])), 0.5 + seed
    )


def measured(seed, rank=64, size=11):
    rng = np.random.default_rng(100 + seed)
    sketch = Sketch(size, rank)
    sketch.add(rng.standard_normal((30, size)) @ rng.standard_normal((size, size)))
    return sketch.moment()


def restated(deltas, weights, moments, alpha, ridge):
    """Jin et al., equation 2 on updates: off-diagonals of every Gram matrix scaled by alpha."""
    grams = [np.diag(m.diagonal) + m.factor @ m.factor.T for m in moments]
    grams = [alpha * G + (1 - alpha) * np.diag(np.diag(G)) for G in grams]
    left = sum(w * matrix(d) @ G for d, w, G in zip(deltas, weights, grams, strict=True))
    whole = sum(grams)
    return left @ np.linalg.inv(whole + ridge * np.diag(whole).mean() * np.eye(len(whole)))


@pytest.mark.parametrize("rank", [64, 4])
@pytest.mark.parametrize(("alpha", "ridge"), [(0.9, 1e-3), (1.0, 0.1), (0.0, 1e-2)])
def test_it_is_the_papers_formula_in_factors(rank, alpha, ridge):
    deltas, weights = [update(2, 0), update(3, 1), update(1, 2)], [1.0, 0.5, -0.7]
    moments = [measured(i, rank) for i in range(3)]
    merged = RegMean().merge_factors(deltas, weights, Regression(alpha, ridge), [], moments)
    wanted = restated(deltas, weights, moments, alpha, ridge)
    assert merged.rank == 6
    assert np.abs(matrix(merged) - wanted).max() < 1e-10 * np.abs(wanted).max()


def test_each_adapter_is_followed_on_its_own_inputs():
    rng = np.random.default_rng(5)
    inputs = [np.zeros((20, 11)), np.zeros((20, 11))]
    inputs[0][:, :5], inputs[1][:, 5:] = rng.standard_normal((20, 5)), rng.standard_normal((20, 6))
    deltas, moments = [update(2, 0), update(3, 1)], []
    for rows in inputs:
        sketch = Sketch(11)
        sketch.add(rows)
        moments.append(sketch.moment())
    merged = RegMean().merge_factors(deltas, [1.0, 1.0], Regression(1.0, 1e-9), [], moments)
    for rows, delta in zip(inputs, deltas, strict=True):
        assert np.abs(rows @ (matrix(merged) - matrix(delta)).T).max() < 1e-5


def test_inputs_that_are_all_zero_give_no_update():
    nothing = Moment(np.zeros(11), np.zeros((11, 0)))
    merged = RegMean().merge_factors([update(2, 0)], [1.0], Regression(), [], [nothing])
    assert not matrix(merged).any()
