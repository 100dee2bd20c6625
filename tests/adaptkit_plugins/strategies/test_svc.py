"""adaptkit_plugins.strategies.svc against algorithm 1 of the paper, one direction at a time."""

from __future__ import annotations

import numpy as np
import pytest

from adaptkit.testing import StrategyConformance
from adaptkit_plugins.strategies.svc import Floor, Svc


class TestConformance(StrategyConformance):
    tolerance = 1e-9

    @pytest.fixture
    def strategy(self):
        return Svc()


def updates(count=3, rank=2, shape=(9, 7)):
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
        for _ in range(count)
    ]


@pytest.mark.parametrize("floor", [1.0, 0.5])
def test_it_is_the_papers_algorithm(floor):
    given, weights = updates(), [1.0, 0.5, 0.7]
    terms = [w * D for w, D in zip(weights, given, strict=True)]
    U, S, Vt = np.linalg.svd(sum(terms))
    wanted = np.zeros((9, 7))
    for r in range(6):
        whole = U[:, r] @ sum(terms)
        ratios = []
        for term in terms:
            own = U[:, r] @ term
            ratios.append(max(floor, float(whole @ own / (own @ own))))
        wanted += 3 / sum(ratios) * S[r] * np.outer(U[:, r], Vt[r])
    found = Svc().merge(given, weights, Floor(floor), [None] * 3)
    assert np.abs(found - wanted).max() < 1e-10


def test_what_all_updates_say_is_said_once():
    (one,) = updates(1)
    merged = Svc().merge([one] * 3, [1.0] * 3, Floor(), [None] * 3)
    assert np.abs(merged - one).max() < 1e-12


def test_updates_that_share_nothing_are_added():
    one, other = updates(2)
    one[4:], one[:, 3:], other[:4], other[:, :3] = 0.0, 0.0, 0.0, 0.0
    merged = Svc().merge([one, other], [1.0, 0.5], Floor(), [None] * 2)
    assert np.abs(merged - one - 0.5 * other).max() < 1e-12
