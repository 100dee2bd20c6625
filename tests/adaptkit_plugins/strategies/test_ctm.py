"""adaptkit_plugins.strategies.ctm against the paper's steps restated in dense float64, and against what they are for."""

from __future__ import annotations

import numpy as np
import pytest

from adaptkit.testing import StrategyConformance
from adaptkit_plugins.strategies.ctm import Ctm, Shared


class TestConformance(StrategyConformance):
    tolerance = 1e-8

    @pytest.fixture
    def strategy(self):
        return Ctm()


class TestTheSum(TestConformance):
    @pytest.fixture
    def params(self):
        return Shared(rule="sum")


def updates(sizes=(1.0, 3.0, 0.2), rank=2, shape=(9, 7)):
    rng = np.random.default_rng(0)
    return [
        size * rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
        for size in sizes
    ]


def merge(given, weights=None, **params):
    weights = weights or [1.0] * len(given)
    return Ctm().merge(given, weights, Shared(**params), [None] * len(given))


def subspaces(given, rank, beta):
    """Tucker-2 of the evened updates by eigenvectors of the two Gram matrices, by turns."""
    sizes = [np.linalg.norm(D) for D in given]
    lengths = [beta * size + (1 - beta) * np.mean(sizes) for size in sizes]
    X = [length * D / size for D, size, length in zip(given, sizes, lengths, strict=True)]
    U = np.linalg.eigh(sum(D @ D.T for D in X))[1][:, -rank:]
    V = np.linalg.eigh(sum(D.T @ D for D in X))[1][:, -rank:]
    for _ in range(500):
        U = np.linalg.eigh(sum(D @ V @ V.T @ D.T for D in X))[1][:, -rank:]
        V = np.linalg.eigh(sum(D.T @ U @ U.T @ D for D in X))[1][:, -rank:]
    return X, U, V


def turned(axes):
    """An eigenvector may point either way: here its largest entry is positive."""
    return axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])


@pytest.mark.parametrize("beta", [0.0, 0.25, 1.0])
def test_the_sum_of_coordinates_is_the_sum_projected_on_the_shared_subspaces(beta):
    given, weights = updates(), [1.0, 0.5, -0.7]
    _, U, V = subspaces(given, 2, beta)
    whole = sum(w * D for w, D in zip(weights, given, strict=True))
    found = merge(given, weights, beta=beta, rule="sum", rounds=500)
    assert np.abs(found - U @ U.T @ whole @ V @ V.T).max() < 1e-9
    assert np.linalg.matrix_rank(found) == 2


def test_ties_elects_and_averages_what_the_coordinates_keep():
    given, weights = updates(), [1.0, 0.5, 0.7]
    _, U, V = subspaces(given, 2, 0.25)
    U, V = turned(U[:, ::-1]), turned(V[:, ::-1])
    kept = []
    for w, D in zip(weights, given, strict=True):
        term = w * U.T @ D @ V
        term[np.abs(term) < np.sort(np.abs(term).ravel())[-3]] = 0.0
        kept.append(term)
    merged = np.zeros((2, 2))
    for i, j in np.ndindex(2, 2):
        values = [term[i, j] for term in kept]
        agreeing = [value for value in values if value * sum(values) > 0]
        merged[i, j] = np.mean(agreeing) if agreeing else 0.0
    found = merge(given, weights, density=0.75, rounds=500)
    assert np.abs(found - U @ merged @ V.T).max() < 1e-9


def test_bettering_keeps_more_of_every_evened_update_than_the_start_does():
    given = updates(sizes=(1.0, 3.0, 0.2, 2.0), shape=(20, 15))

    def kept(rounds):
        sizes = [np.linalg.norm(D) for D in given]
        total = 0.0
        for i, size in enumerate(sizes):
            # A weight so small that it changes nothing but leaves the others their say in the subspaces.
            weights = [1e-9] * 4
            weights[i] = np.mean(sizes) / size
            total += np.linalg.norm(merge(given, weights, beta=0.0, rule="sum", rounds=rounds)) ** 2
        return total

    assert kept(0) < kept(1) < kept(100)


def test_a_small_update_is_kept_where_sizes_are_evened_and_lost_where_they_are_not():
    rng = np.random.default_rng(1)
    small, large, other = (
        np.outer(rng.standard_normal(9), rng.standard_normal(7)) for _ in range(3)
    )
    given = [small, 100.0 * large + 90.0 * other]

    def kept(beta):
        found = merge(given, [1.0, 1e-12], beta=beta, dimensions=2, rule="sum")
        return np.linalg.norm(found) / np.linalg.norm(small)

    assert kept(0.0) > 0.99
    assert kept(1.0) < 0.9


def test_one_adapter_alone_is_itself_and_a_weight_of_zero_has_no_say():
    one, other, _ = updates()
    assert np.abs(merge([one], rule="sum") - one).max() < 1e-12
    assert np.abs(merge([one, other], [1.0, 0.0], rule="sum") - one).max() < 1e-12
