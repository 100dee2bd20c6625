"""adaptkit_plugins.strategies.spectral against plain restatements, in any frame."""

from __future__ import annotations

import numpy as np
import pytest

from adaptkit.testing import StrategyConformance
from adaptkit_plugins.strategies.spectral import Cart, Common, IsoC, IsoCts, Keep, RankShare, Tsv

STRATEGIES = {s.name: s for s in (Tsv(), IsoC(), IsoCts(), Cart())}


class TestAll(StrategyConformance):
    tolerance = 1e-9

    @pytest.fixture(params=STRATEGIES)
    def strategy(self, request):
        return STRATEGIES[request.param]


def updates(count=3, rank=2, shape=(9, 7), seed=0):
    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
        for _ in range(count)
    ]


def run(strategy, given, weights=None, params=None):
    return strategy.merge(
        given, weights or [1.0] * len(given), params or strategy.params(), [None] * len(given)
    )


def polar(matrix):
    """By the eigenvectors of the Gram matrix: another way than the singular value decomposition."""
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    return matrix @ vectors @ np.diag(values**-0.5) @ vectors.T


def test_tsv_is_the_papers_formula():
    given, weights = updates(), [0.5, 1.0, 2.0]
    lefts, values, rights = [], [], []
    for tensor, weight in zip(given, weights, strict=True):
        U, S, Vt = np.linalg.svd(weight * tensor)
        lefts.append(U[:, :1])
        values.append(S[:1])
        rights.append(Vt[:1].T)
    wanted = polar(np.hstack(lefts)) @ np.diag(np.hstack(values)) @ polar(np.hstack(rights)).T
    assert np.abs(run(Tsv(), given, weights, Keep(0.4)) - wanted).max() < 1e-10


def test_iso_c_has_equal_singular_values_on_the_range_of_the_sum_and_none_outside():
    given = updates(2, 2)
    S = np.linalg.svd(sum(given), compute_uv=False)
    merged = run(IsoC(), given)
    found = np.linalg.svd(merged, compute_uv=False)
    assert np.abs(found[:4] - S[:4].mean()).max() < 1e-10
    assert found[4:].max() < 1e-10
    U = np.linalg.svd(sum(given))[0][:, 4:]
    assert np.abs(U.T @ merged).max() < 1e-10


def test_iso_cts_keeps_common_directions_and_adds_those_of_the_tasks():
    given = updates(2, 3)
    total = sum(given)
    U, S, Vt = np.linalg.svd(total)
    lefts, rights, strengths = [U[:, :4]], [Vt[:4].T], [S[:4]]
    for tensor in given:
        left, own, right = np.linalg.svd(tensor - U[:, :4] @ U[:, :4].T @ tensor)
        lefts.append(left[:, :1])
        rights.append(right[:1].T)
        strengths.append(own[:1])
    wanted = np.hstack(strengths).mean() * polar(np.hstack(lefts)) @ polar(np.hstack(rights)).T
    assert np.abs(run(IsoCts(), given, None, Common(0.5)) - wanted).max() < 1e-10


def test_cart_is_the_mean_and_the_leading_part_of_what_differs():
    given, weights = updates(2, 2), [0.5, 0.7]
    mean = (given[0] + given[1]) / 2
    wanted = mean.copy()
    for tensor, weight in zip(given, weights, strict=True):
        U, S, Vt = np.linalg.svd(tensor - mean)
        wanted += weight * sum(S[i] * np.outer(U[:, i], Vt[i]) for i in range(2))
    assert np.abs(run(Cart(), given, weights, RankShare(0.5)) - wanted).max() < 1e-10


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_frame_does_not_matter(name):
    given = updates()
    rng = np.random.default_rng(5)
    U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (9, 7))
    turned = run(STRATEGIES[name], [U @ t @ V for t in given])
    assert np.abs(turned - U @ run(STRATEGIES[name], given) @ V).max() < 1e-10
