"""adaptkit_plugins.strategies.wudi against the formula with every matrix written out, and against descent."""

from __future__ import annotations

import numpy as np
import pytest

from adaptkit.testing import StrategyConformance
from adaptkit_plugins.strategies.wudi import ActMat, Ridge, Wudi

STRATEGIES = {s.name: s for s in (ActMat(), Wudi())}


class TestAll(StrategyConformance):
    tolerance = 1e-9

    @pytest.fixture(params=STRATEGIES)
    def strategy(self, request):
        return STRATEGIES[request.param]


def updates(count=3, rank=2, shape=(9, 7)):
    rng = np.random.default_rng(0)
    return [
        (i + 1) * rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
        for i in range(count)
    ]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("ridge", [0.0, 0.05])
def test_it_is_the_formula(name, ridge):
    given, weights = updates(), [1.0, 0.5, -0.7]
    shares = [1 / np.linalg.norm(D) ** 2 if name == "wudi" else 1.0 for D in given]
    left = sum(a * w * D @ D.T @ D for a, w, D in zip(shares, weights, given, strict=True))
    whole = sum(a * D.T @ D for a, D in zip(shares, given, strict=True))
    top = np.linalg.eigvalsh(whole)[-1]
    wanted = left @ np.linalg.pinv(whole + ridge * top * np.eye(7), rcond=1e-12)
    if ridge:  # beyond the rows of the updates there is nothing to divide
        rows = np.linalg.svd(whole)[2][:6]
        wanted = wanted @ rows.T @ rows
    found = STRATEGIES[name].merge(given, weights, Ridge(ridge), [None] * 3)
    assert np.abs(found - wanted).max() < 1e-9 * np.abs(wanted).max()


def test_no_other_update_comes_closer_to_what_wudi_minimises():
    given = updates(2)

    def loss(D):
        return sum(
            np.linalg.norm((D - one) @ one.T) ** 2 / np.linalg.norm(one) ** 2 for one in given
        )

    merged = Wudi().merge(given, [1.0, 1.0], Ridge(), [None] * 2)
    rng = np.random.default_rng(1)
    least = loss(merged)
    assert all(loss(merged + 1e-3 * rng.standard_normal(merged.shape)) > least for _ in range(20))
    assert least < loss(sum(given))


@pytest.mark.parametrize("name", STRATEGIES)
def test_updates_of_separate_rows_are_added(name):
    given = updates(2)
    given[0][:, 3:], given[1][:, :3] = 0.0, 0.0
    merged = STRATEGIES[name].merge(given, [1.0, 0.5], Ridge(), [None] * 2)
    assert np.abs(merged - given[0] - 0.5 * given[1]).max() < 1e-10
