"""adaptkit_plugins.strategies.spherical against plain restatements."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adaptkit.errors import BadRecipe
from adaptkit.testing import StrategyConformance
from adaptkit_plugins.strategies.spherical import (
    Iterations,
    Karcher,
    MultiSlerp,
    Nearness,
    NearSwap,
    NuSlerp,
    Slerp,
)

STRATEGIES = {s.name: s for s in (Slerp(), NuSlerp(), MultiSlerp(), Karcher(), NearSwap())}


class TestAll(StrategyConformance):
    tolerance = 1e-9

    @pytest.fixture(params=STRATEGIES)
    def strategy(self, request):
        return STRATEGIES[request.param]


def tensors(count=2, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((5, 4)) * (i + 1) for i in range(count)]


def run(strategy, given, weights, params=None):
    return strategy.merge(given, weights, params or strategy.params(), [None] * len(given))


def test_halfway_between_two_orthogonal_units_has_length_one():
    one, other = np.zeros((2, 2)), np.zeros((2, 2))
    one[0, 0] = other[1, 1] = 1.0
    for strategy in (Slerp(), NuSlerp(), MultiSlerp(), Karcher()):
        merged = run(strategy, [one, other], [1.0, 1.0])
        assert np.allclose(merged, (one + other) / math.sqrt(2), atol=1e-12)


def test_slerp_is_shoemakes_formula():
    one, other = tensors()
    for weights in ([1.0, 3.0], [0.2, 0.2]):
        t = weights[1] / sum(weights)
        theta = math.acos((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))
        wanted = (math.sin((1 - t) * theta) * one + math.sin(t * theta) * other) / math.sin(theta)
        assert np.allclose(run(Slerp(), [one, other], weights), wanted, rtol=0, atol=1e-12)


def test_nuslerp_has_the_weighted_mean_of_the_norms():
    one, other = tensors()
    merged = run(NuSlerp(), [one, other], [1.0, 3.0])
    assert math.isclose(
        np.linalg.norm(merged),
        0.25 * np.linalg.norm(one) + 0.75 * np.linalg.norm(other),
        rel_tol=1e-12,
    )


def test_karcher_is_where_the_tangents_cancel():
    given, weights = tensors(4), [0.1, 0.4, 0.3, 0.2]
    mean = run(Karcher(), given, weights, Iterations(500, 0.0))
    mean /= np.linalg.norm(mean)
    pull = np.zeros_like(mean)
    for weight, tensor in zip(weights, given, strict=True):
        unit = tensor / np.linalg.norm(tensor)
        inner = (mean * unit).sum()
        across = unit - inner * mean
        pull += weight * math.acos(inner) * across / np.linalg.norm(across)
    assert np.linalg.norm(pull) < 1e-12
    assert np.allclose(
        run(Karcher(), given[:2], [1, 1]), run(NuSlerp(), given[:2], [1, 1]), atol=1e-10
    )


def test_nearswap_swaps_what_is_near_and_leaves_the_rest():
    one, other = np.array([[1.0, 1.0, 0.0]]), np.array([[1.05, 3.0, 0.0]])
    assert np.allclose(
        run(NearSwap(), [one, other], [1, 1], Nearness(0.1)), [[1.05, 1.1, 0.0]], atol=1e-15
    )


def test_parallel_and_opposite_updates_are_no_trouble():
    one = tensors(1)[0]
    for strategy in (Slerp(), NuSlerp(), Karcher(), MultiSlerp()):
        assert np.allclose(run(strategy, [one, 2 * one], [1, 1]), 1.5 * one, atol=1e-9)
        assert np.isfinite(run(strategy, [one, -one], [1, 1])).all()


def test_negative_weights_are_no_shares():
    with pytest.raises(BadRecipe, match=r"the weights \[1.0, -1.0\] are no shares"):
        run(Slerp(), tensors(), [1.0, -1.0])
