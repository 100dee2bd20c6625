"""Trim, drop, elect, disjoint merge: exact counts, exact values, and expectations with a bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptkit.algebra import sparsify
from adaptkit.errors import BadRecipe


def generator(key=0):
    return np.random.Generator(np.random.Philox(key=key))


def normal(*shape, key=1):
    return generator(key).standard_normal(shape)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 100), st.integers(0, 50))
def test_trimming_keeps_exactly_the_share_and_the_largest(m, n, percent, seed):
    tensor = normal(m, n, key=seed)
    kept = sparsify.trim(tensor, percent / 100)
    count = -(-percent * m * n // 100)  # the ceiling, in integers
    assert np.count_nonzero(kept) == count
    assert sorted(np.abs(kept[kept != 0])) == sorted(np.abs(tensor).ravel())[-count:]
    assert np.array_equal(kept[kept != 0], tensor[kept != 0])


def test_a_share_is_what_was_typed_and_not_its_float():
    assert 0.07 * 100 > 7  # in floats, whose ceiling is 8
    assert np.count_nonzero(sparsify.trim(normal(10, 10), 0.07)) == 7
    assert (
        np.count_nonzero(sparsify.breadcrumbs(normal(10, 10), beta=0.29, gamma=0.57)) == 14
    )  # 0.29·100 < 29 in floats


def test_of_equal_magnitudes_the_first_are_kept():
    tensor = np.array([[1.0, -2.0, 2.0], [-2.0, 2.0, 3.0]])
    assert sparsify.trim(tensor, 0.5).tolist() == [[0, -2, 2], [0, 0, 3]]
    # Dropped: 3 and the first 2 as the largest, 1 and the last 2 as the smallest.
    assert sparsify.breadcrumbs(tensor, beta=0.34, gamma=0.34).tolist() == [[0, 0, 2], [-2, 0, 0]]
    assert sparsify.largest(np.zeros((2, 3)), 4).tolist() == [
        [True, True, True],
        [True, False, False],
    ]
    assert sparsify.largest(tensor, 0).sum() == 0
    assert sparsify.largest(tensor, 6).all()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.integers(0, 99))
def test_breadcrumbs_leave_exactly_what_is_between_the_tails(m, n, low, high):
    if low + high >= 100:
        return
    tensor = np.round(normal(m, n, key=low), 1) + 0.05  # many equal ones, none zero
    kept = sparsify.breadcrumbs(tensor, low / 100, high / 100)
    small, large = low * m * n // 100, high * m * n // 100
    assert np.count_nonzero(kept) == m * n - small - large
    assert sorted(np.abs(kept[kept != 0])) == sorted(np.abs(tensor).ravel())[small : m * n - large]


def test_what_is_dropped_comes_from_the_generator_alone():
    tensor = normal(8, 9)
    for thin in (sparsify.drop, lambda t, p, rng: sparsify.magprune(t, p, 0.2, rng)):
        assert (
            thin(tensor, 0.4, generator(3)).tobytes() == thin(tensor, 0.4, generator(3)).tobytes()
        )
        assert (
            thin(tensor, 0.4, generator(3)).tobytes() != thin(tensor, 0.4, generator(4)).tobytes()
        )


def test_a_dropped_tensor_holds_its_entries_over_their_chance_or_zero():
    tensor = normal(8, 9)
    dropped = sparsify.drop(tensor, 0.4, generator())
    assert np.array_equal(dropped[dropped != 0], (tensor / 0.4)[dropped != 0])
    bare = sparsify.drop(tensor, 0.4, generator(), rescale=False)
    assert np.array_equal(bare[bare != 0], tensor[bare != 0])
    assert np.array_equal(bare != 0, dropped != 0)


def test_the_expectation_of_a_drop_is_the_tensor():
    tensor, draws, density, epsilon = normal(5, 6), 4000, 0.3, 0.4
    chances = sparsify.keep_probabilities(tensor, density, epsilon)
    rng = generator(5)
    for p, thin in (
        (np.full(tensor.shape, density), lambda: sparsify.drop(tensor, density, rng)),
        (chances, lambda: sparsify.magprune(tensor, density, epsilon, rng)),
    ):
        mean = sum(thin() for _ in range(draws)) / draws
        sigma = np.abs(tensor) * np.sqrt((1 - p) / p / draws)  # of one entry's mean
        assert (np.abs(mean - tensor) < 5 * sigma).all()
        assert np.abs(mean - tensor).max() > 0


def test_chances_rise_with_the_rank_in_the_row_around_the_density():
    tensor = np.array([[3.0, -1.0, 2.0], [0.0, 0.0, -5.0]])
    assert np.allclose(
        sparsify.keep_probabilities(tensor, 0.5, 0.2),
        [[0.6, 0.4, 0.5], [0.5, 0.4, 0.6]],
        rtol=0,
        atol=1e-15,
    )
    chances = sparsify.keep_probabilities(normal(7, 10), 0.3, 0.4)
    assert np.allclose(chances.mean(axis=1), 0.3, rtol=0, atol=1e-15)
    assert sparsify.keep_probabilities(normal(4, 1), 0.3, 0.4).tolist() == [[0.3]] * 4


def test_rescaling_gives_back_the_l1_norm():
    tensor = normal(5, 6)
    scaled = sparsify.rescale_l1(sparsify.trim(tensor, 0.2), tensor)
    assert math.isclose(np.abs(scaled).sum(), np.abs(tensor).sum(), rel_tol=1e-14)
    assert not sparsify.rescale_l1(np.zeros((2, 2)), np.ones((2, 2))).any()


def test_the_total_and_the_number_elect_differently():
    terms = [
        np.array([5.0, 1.0, -1.0, 0.0]),
        np.array([-2.0, 1.0, 1.0, 0.0]),
        np.array([-2.0, -3.0, 0.0, 0.0]),
    ]
    assert sparsify.elect(terms).tolist() == [1, -1, 0, 0]
    assert sparsify.elect(terms, "frequency").tolist() == [-1, 1, 0, 0]
    assert sparsify.elect(terms, tie=1).tolist() == [1, -1, 1, 1]
    assert terms[0].tolist() == [5, 1, -1, 0]


def test_a_sum_that_is_only_rounding_elects_no_sign_in_any_order():
    terms = [np.array([0.1]), np.array([0.2]), np.array([-0.3])]
    assert sum(terms) != 0
    assert all(
        sparsify.elect([terms[i] for i in order]) == 0
        for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0))
    )


def test_disjoint_divides_by_number_by_weight_or_not():
    terms, weights = (
        [np.array([2.0, 2.0, 0.0]), np.array([1.0, -4.0, 0.0]), np.array([3.0, -2.0, 0.0])],
        [1.0, 0.5, 2.0],
    )
    signs = sparsify.elect(terms)
    assert sparsify.disjoint(terms, signs).tolist() == [2, -3, 0]
    assert sparsify.disjoint(terms, signs, "weight", weights).tolist() == [6 / 3.5, -6 / 2.5, 0]
    assert sparsify.disjoint(terms, signs, "none", weights).tolist() == [6, -6, 0]


def test_weights_that_cancel_divide_nothing():
    terms, weights = [np.array([2.0]), np.array([3.0]), np.array([4.0])], [0.1, 0.2, -0.3]
    assert sparsify.disjoint(terms, np.array([1.0]), "weight", weights).tolist() == [9.0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_precision_stays(dtype):
    tensor = normal(4, 5).astype(dtype)
    results = [
        sparsify.trim(tensor, 0.5),
        sparsify.drop(tensor, 0.5, generator()),
        sparsify.breadcrumbs(tensor, 0.2, 0.2),
        sparsify.rescale_l1(tensor, tensor),
        sparsify.disjoint([tensor], sparsify.elect([tensor])),
    ]
    assert {result.dtype for result in results} == {np.dtype(dtype)}


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5, math.nan])
def test_a_density_that_is_no_share_is_refused_by_name(density):
    tensor = normal(2, 2)
    for thin in (
        sparsify.trim,
        lambda t, p: sparsify.drop(t, p, generator()),
        lambda t, p: sparsify.magprune(t, p, 0.1, generator()),
    ):
        with pytest.raises(BadRecipe, match=f"density={density}"):
            thin(tensor, density)


def test_tails_that_leave_nothing_and_windows_that_are_no_chances_are_refused():
    with pytest.raises(BadRecipe, match="beta=0.6 and gamma=0.4 leave nothing"):
        sparsify.breadcrumbs(normal(2, 2), 0.6, 0.4)
    with pytest.raises(
        BadRecipe, match=r"epsilon=0.5 is too wide for density=0.9[\s\S]*--param epsilon=0.18"
    ):
        sparsify.magprune(normal(2, 2), 0.9, 0.5, generator())
    with pytest.raises(BadRecipe, match="epsilon=0.4 is too wide for density=0.2"):
        sparsify.magprune(normal(2, 2), 0.2, 0.4, generator())  # the smallest would never be kept
