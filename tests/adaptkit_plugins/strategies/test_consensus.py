"""adaptkit_plugins.strategies.consensus against plain restatements."""

from __future__ import annotations

import numpy as np
import pytest

from adaptkit.testing import StrategyConformance
from adaptkit_plugins.strategies.consensus import ModelStock, Sce, Select

STRATEGIES = {s.name: s for s in (ModelStock(), Sce())}


class TestAll(StrategyConformance):
    tolerance = 1e-9

    @pytest.fixture(params=STRATEGIES)
    def strategy(self, request):
        return STRATEGIES[request.param]


class TestSelecting(StrategyConformance):
    tolerance = 1e-9

    @pytest.fixture
    def strategy(self):
        return Sce()

    @pytest.fixture
    def params(self):
        return Select(0.4)

    def test_one_adapter_at_its_identity_weight_comes_back(self, strategy, params):
        """Not when it is cut: the identity is that of the defaults."""


def run(strategy, given, weights, params=None):
    return strategy.merge(given, weights, params or strategy.params(), [None] * len(given))


def test_model_stock_is_the_papers_ratio():
    rng = np.random.default_rng(0)
    common = rng.standard_normal((4, 3))
    given = [common + 0.5 * rng.standard_normal((4, 3)) for _ in range(3)]
    cosines = [
        np.vdot(given[i], given[j]) / np.linalg.norm(given[i]) / np.linalg.norm(given[j])
        for i in range(3)
        for j in range(i)
    ]
    c = np.mean(cosines)
    t = 3 * c / (1 + 2 * c)
    assert np.abs(run(ModelStock(), given, [1, 1, 1]) - t * np.mean(given, axis=0)).max() < 1e-10


def test_updates_that_have_nothing_in_common_stay_at_the_base():
    assert not run(ModelStock(), [np.eye(2), np.eye(2)[::-1]], [1, 1]).any()


@pytest.mark.parametrize("topk", [1.0, 0.5])
def test_sce_selects_calculates_and_erases(topk):
    rng = np.random.default_rng(1)
    given, weights = [rng.standard_normal((4, 5)) for _ in range(3)], [1.0, 0.5, 2.0]
    terms = [w * t for w, t in zip(weights, given, strict=True)]
    variance = np.var(terms, axis=0)
    bound = np.sort(variance.reshape(-1))[::-1][int(topk * 20) - 1]
    kept = [np.where(variance >= bound, term, 0.0) for term in terms]
    energies = [np.sum(k**2) for k in kept]
    wanted = np.zeros((4, 5))
    for i in range(4):
        for j in range(5):
            sign = np.sign(sum(k[i, j] for k in kept))
            shares = [
                e / sum(energies) if np.sign(k[i, j]) == sign else 0.0
                for e, k in zip(energies, kept, strict=True)
            ]
            if sum(shares):
                wanted[i, j] = sum(s * k[i, j] for s, k in zip(shares, kept, strict=True)) / sum(
                    shares
                )
    assert np.abs(run(Sce(), given, weights, Select(topk)) - wanted).max() < 1e-10
