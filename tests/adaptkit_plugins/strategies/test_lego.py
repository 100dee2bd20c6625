"""adaptkit_plugins.strategies.lego: units clustered, and the two rescalings, against a plain restatement."""

from __future__ import annotations

import numpy as np
import pytest

from adaptkit.algebra.lowrank import balance, matrix
from adaptkit.extend import LowRank
from adaptkit.testing import StrategyConformance
from adaptkit_plugins.strategies.lego import Lego, Units


class TestConformance(StrategyConformance):
    tolerance = 1e-9

    @pytest.fixture
    def strategy(self):
        return Lego()


def rngs(count):
    return [np.random.Generator(np.random.Philox(key=i)) for i in range(count)]


def unit(size, at, seed=0):
    rng = np.random.default_rng(seed)
    vector = 0.01 * rng.standard_normal(size)
    vector[at] += 1.0
    return vector


def test_clusters_become_their_means_rescaled_twice():
    # Two adapters of ranks 2 and 1; the second's only unit points where the first's second one does.
    b = [unit(6, 0, 1), unit(6, 3, 2), unit(6, 3, 3)]
    a = [unit(5, 0, 4), unit(5, 2, 5), unit(5, 2, 6)]
    one = LowRank(np.stack([3 * b[0], b[1]]).T, np.stack([3 * a[0], a[1]]))
    other = LowRank(b[2][:, None], a[2][None], 2.0)
    units = [np.concatenate(pair) for pair in ((3 * b[0], 3 * a[0]), (b[1], a[1]), (b[2], a[2]))]
    units[2][:6] *= 2.0 * 0.5  # the scale, and the weight
    mean = (units[1] + units[2]) / 2
    mean *= np.mean([np.abs(units[1]).max(), np.abs(units[2]).max()]) / np.abs(mean).max()
    wanted = np.outer(units[0][:6], units[0][6:]) + np.outer(mean[:6], mean[6:])
    found = matrix(Lego().merge_factors([one, other], [1.0, 0.5], Units(), rngs(2)))
    assert np.abs(found - wanted).max() < 1e-12


def test_with_a_cluster_for_every_unit_it_is_the_sum_rescaled():
    rng = np.random.default_rng(0)
    given = [
        balance(LowRank(rng.standard_normal((9, rank)), rng.standard_normal((rank, 7))))
        for rank in (3, 2)
    ]
    found = matrix(Lego().merge_factors(given, [1.0, 0.5], Units(5), rngs(2)))
    wanted = np.sqrt(3 / 5) * (matrix(given[0]) + 0.5 * matrix(given[1]))
    assert np.abs(found - wanted).max() < 1e-12


def test_the_order_of_the_adapters_does_not_matter():
    rng = np.random.default_rng(1)
    given = [LowRank(rng.standard_normal((9, 4)), rng.standard_normal((4, 7))) for _ in range(3)]
    weights, draws = [1.0, 0.5, 0.7], [2, 0, 1]
    found = matrix(Lego().merge_factors(given, weights, Units(), rngs(3)))
    turned = matrix(
        Lego().merge_factors(
            [given[i] for i in draws],
            [weights[i] for i in draws],
            Units(),
            [rngs(3)[i] for i in draws],
        )
    )
    assert np.abs(found - turned).max() < 1e-12


def test_units_of_weight_zero_are_left_out():
    rng = np.random.default_rng(2)
    one, other = (LowRank(rng.standard_normal((9, 2)), rng.standard_normal((2, 7))) for _ in "ab")
    found = matrix(Lego().merge_factors([one, other], [1.0, 0.0], Units(), rngs(2)))
    assert np.abs(found - matrix(one)).max() < 1e-12
