"""adaptkit_plugins.strategies.robustmerge against the three steps of the paper, entry by entry."""

from __future__ import annotations

import numpy as np
import pytest

from adaptkit.algebra.lowrank import matrix
from adaptkit.extend import LowRank
from adaptkit.testing import StrategyConformance
from adaptkit_plugins.strategies.robustmerge import Robust, RobustMerge


class TestConformance(StrategyConformance):
    tolerance = 1e-9

    @pytest.fixture
    def strategy(self):
        return RobustMerge()


def prune(matrix, density):
    """Keep the largest entries, by sorting."""
    kept = int(np.ceil(density * matrix.size))
    threshold = np.sort(np.abs(matrix).ravel())[-kept]
    return np.where(np.abs(matrix) >= threshold, matrix, 0.0)


def test_it_prunes_scales_and_shares_out():
    rng = np.random.default_rng(0)
    given = [LowRank(rng.standard_normal((9, r)), rng.standard_normal((r, 7)), 0.5) for r in (5, 3)]
    weights, how = [1.0, 0.7], Robust(0.4, 0.6, 2.0)
    scales = np.zeros((2, 5))
    for i, delta in enumerate(given):
        pruned = prune(delta.A, 0.4)
        ratio = np.abs(delta.A).sum(1) / np.abs(pruned).sum(1)
        scales[i, : delta.rank] = np.maximum(ratio, np.sort(ratio)[int(0.6 * delta.rank)])
    wanted = np.zeros((9, 7))
    for i, (delta, weight) in enumerate(zip(given, weights, strict=True)):
        for part in range(delta.rank):
            share = scales[i, part] / scales[:, part].sum()
            left, right = prune(delta.B, 0.4)[:, part], prune(delta.A, 0.4)[part]
            wanted += 2.0 * weight * share * 0.5 * np.outer(left, right)
    found = matrix(RobustMerge().merge_factors(given, weights, how, []))
    assert np.abs(found - wanted).max() < 1e-12


def test_one_adapter_unpruned_comes_back_times_the_gain():
    rng = np.random.default_rng(1)
    one = LowRank(rng.standard_normal((9, 3)), rng.standard_normal((3, 7)))
    found = matrix(RobustMerge().merge_factors([one], [1.0], Robust(1.0, 0.8, 1.0), []))
    assert np.abs(found - matrix(one)).max() < 1e-12
