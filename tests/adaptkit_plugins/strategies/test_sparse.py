"""The sparse family: each member equals its formula written out entry by entry, and holds to the contract."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from adaptkit.errors import BadRecipe
from adaptkit.merge.recipe import read_params
from adaptkit.testing import StrategyConformance
from adaptkit_plugins.strategies import sparse


def registered():
    found = []
    sparse.register_merge_strategies(found.append)
    return {strategy.name: strategy for strategy in found}


FAMILY = registered()
FIXED = {"density": 0.4, "epsilon": 0.3, "beta": 0.3, "gamma": 0.1, "elect": "frequency"}
"""Parameters far from the defaults."""
WHOLE = {"density": 1.0, "epsilon": 0.3, "beta": 0.0, "gamma": 0.0}
"""Parameters with which nothing is dropped."""


def params_of(strategy, **given):
    return strategy.params(**{k: v for k, v in given.items() if k in read_params(strategy, {})})


def generators(keys):
    return [np.random.Generator(np.random.Philox(key=11 + key)) for key in keys]


def draw(count, shape=(5, 8), seed=3):
    """Updates of like size, so that elections are close, with zeros and equal magnitudes among them."""
    rng = np.random.default_rng(seed)
    tensors = [rng.standard_normal(shape) for _ in range(count)]
    for tensor in tensors:
        tensor[0, :2], tensor[1, :3] = 0.0, -tensor[1, 0]
    return tensors


class TestDefaults(StrategyConformance):
    @pytest.fixture(params=FAMILY.values(), ids=FAMILY)
    def strategy(self, request):
        return request.param


class TestOtherParameters(TestDefaults):
    @pytest.fixture
    def params(self, strategy):
        return params_of(strategy, **FIXED)


# ---------------------------------------------------------------- the formulas, one entry at a time


def by_size(entries):
    """Positions, the largest magnitude first; of equal ones the first."""
    return sorted(range(len(entries)), key=lambda i: (-abs(entries[i]), i))


def trimmed(rows, rng, *, density, **_):
    flat = [x for row in rows for x in row]
    keep = set(by_size(flat)[: math.ceil(round(density * len(flat), 9))])
    return reshaped([x if i in keep else 0.0 for i, x in enumerate(flat)], rows)


def dropped(rows, rng, *, density, **_):
    return [[x / density if rng.random() < density else 0.0 for x in row] for row in rows]


def dropped_to_l1(rows, rng, *, density, **_):
    kept = [[x if rng.random() < density else 0.0 for x in row] for row in rows]
    before, after = (math.fsum(abs(x) for row in some for x in row) for some in (rows, kept))
    return [[x * before / after for x in row] for row in kept]


def without_tails(rows, rng, *, beta, gamma, **_):
    flat = [x for row in rows for x in row]
    order = by_size(flat)
    top, bottom = math.floor(round(gamma * len(flat), 9)), math.floor(round(beta * len(flat), 9))
    keep = set(order[top : len(order) - bottom])
    return reshaped([x if i in keep else 0.0 for i, x in enumerate(flat)], rows)


def magpruned(rows, rng, *, density, epsilon, **_):
    thinned = []
    for row in rows:
        rank = {
            position: len(row) - 1 - place for place, position in enumerate(by_size(row))
        }  # 0: the smallest
        chances = [
            density - epsilon / 2 + epsilon * rank[j] / (len(row) - 1) for j in range(len(row))
        ]
        thinned.append(
            [x / p if rng.random() < p else 0.0 for x, p in zip(row, chances, strict=True)]
        )
    return thinned


def reshaped(flat, rows):
    width = len(rows[0])
    return [flat[i : i + width] for i in range(0, len(flat), width)]


def everything(values, weights, elect):
    return math.fsum(values)


def agreeing(tie, divide):
    def entry(values, weights, elect):
        votes = values if elect == "total" else [math.copysign(1, v) if v else 0 for v in values]
        total = math.fsum(votes)
        sign = tie if abs(total) < 1e-12 else math.copysign(1, total)
        chosen = [(v, w) for v, w in zip(values, weights, strict=True) if v * sign > 0]
        if not chosen:
            return 0.0
        return math.fsum(v for v, _ in chosen) / divide([w for _, w in chosen])

    return entry


FORMULAS = {
    "magnitude_prune": (trimmed, everything),
    "ties": (trimmed, agreeing(0, len)),
    "ties:mergekit": (trimmed, agreeing(1, math.fsum)),
    "dare_linear": (dropped, everything),
    "dare_ties": (dropped, agreeing(0, len)),
    "dare_linear:mergekit": (dropped_to_l1, everything),
    "dare_ties:mergekit": (dropped_to_l1, agreeing(1, lambda weights: 1)),
    "breadcrumbs": (without_tails, everything),
    "breadcrumbs_ties": (without_tails, agreeing(0, len)),
    "della_linear": (magpruned, everything),
    "della": (magpruned, agreeing(0, len)),
}


def restated(name, tensors, weights, params, rngs):
    thin, combine = FORMULAS[name]
    settings = {field: getattr(params, field) for field in params.__dataclass_fields__}
    thinned = [thin(t.tolist(), rng, **settings) for t, rng in zip(tensors, rngs, strict=True)]
    return np.array(
        [
            [
                combine(
                    [w * t[i][j] for w, t in zip(weights, thinned, strict=True)],
                    weights,
                    settings.get("elect"),
                )
                for j in range(tensors[0].shape[1])
            ]
            for i in range(tensors[0].shape[0])
        ]
    )


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize(
    "weights", [(1.0,), (1.0, 1.0), (0.7, 0.3, 0.5), (1.0, -0.5, 0.25, 0.0)], ids=str
)
@pytest.mark.parametrize(
    "given", [{}, FIXED, {**FIXED, "elect": "total"}], ids=["default", "frequency", "total"]
)
def test_each_equals_its_formula_written_out(name, weights, given):
    strategy, tensors = FAMILY[name], draw(len(weights))
    params = params_of(strategy, **given)
    merged = strategy.merge(tensors, weights, params, generators(range(len(weights))))
    expected = restated(name, tensors, weights, params, generators(range(len(weights))))
    assert np.abs(merged - expected).max() <= 1e-10
    assert np.abs(expected).max() > 0


def test_every_member_is_registered_once_and_restated_here():
    assert set(FAMILY) == set(FORMULAS)
    assert all(strategy.spaces == ("dense", "core", "knots") for strategy in FAMILY.values())


# ---------------------------------------------------------------- properties


@pytest.mark.parametrize("name", FAMILY)
def test_one_adapter_of_which_nothing_is_dropped_comes_back(name):
    strategy, (tensor,) = FAMILY[name], draw(1)
    merged = strategy.merge([tensor], [1.0], params_of(strategy, **WHOLE), generators([0]))
    assert np.array_equal(merged, tensor)


@pytest.mark.parametrize("name", [name for name in FAMILY if FORMULAS[name][1] is everything])
def test_without_dropping_and_election_the_weighted_sum_is_left(name):
    strategy, tensors, weights = FAMILY[name], draw(3), [0.7, -0.3, 0.5]
    merged = strategy.merge(tensors, weights, params_of(strategy, **WHOLE), generators(range(3)))
    exact = sum(w * t for w, t in zip(weights, tensors, strict=True))
    assert np.abs(merged - exact).max() <= 1e-14


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("elect", ["total", "frequency"])
def test_any_order_of_the_adapters_gives_the_same(name, elect):
    strategy, tensors, weights = FAMILY[name], draw(4), [0.1, 0.2, 0.3, 0.15]
    tensors[2] = (
        -(tensors[0] + 2 * tensors[1]) / 3
    )  # 0.1·D₀ + 0.2·D₁ + 0.3·D₂ cancels, up to rounding
    tensors[3][:] = 0.0
    params = params_of(strategy, **WHOLE, elect=elect)
    merged = strategy.merge(tensors, weights, params, generators(range(4)))
    for order in itertools.permutations(range(4)):
        turned = strategy.merge(
            [tensors[i] for i in order], [weights[i] for i in order], params, generators(order)
        )
        assert np.abs(turned - merged).max() <= 1e-14


def test_ties_takes_the_mean_of_those_that_agree():
    ties, params = FAMILY["ties"], sparse.DensityElect(density=1.0)
    tensors = [np.array([[4.0, 1.0, 3.0]]), np.array([[2.0, -3.0, -3.0]])]
    assert ties.merge(tensors, [1.0, 1.0], params, generators(range(2))).tolist() == [
        [3.0, -3.0, 0.0]
    ]
    assert ties.merge(tensors, [0.5, 0.5], params, generators(range(2))).tolist() == [
        [1.5, -1.5, 0.0]
    ]
    mergekit = FAMILY["ties:mergekit"]
    assert mergekit.merge(tensors, [0.5, 0.5], params, generators(range(2))).tolist() == [
        [3.0, -3.0, 3.0]
    ]


def test_one_update_alone_keeps_exactly_the_density_share():
    for name in ("ties", "ties:mergekit", "magnitude_prune"):
        merged = FAMILY[name].merge(
            [np.random.default_rng(0).standard_normal((9, 11))],
            [1.0],
            params_of(FAMILY[name], density=0.2),
            generators([0]),
        )
        assert np.count_nonzero(merged) == 20  # ⌈19.8⌉


def test_dare_linear_is_the_weighted_sum_on_average():
    strategy, tensors, weights, draws = FAMILY["dare_linear"], draw(2), [0.7, -0.4], 3000
    params, rngs = strategy.params(density=0.3), generators(range(2))
    mean = sum(strategy.merge(tensors, weights, params, rngs) for _ in range(draws)) / draws
    exact = sum(w * t for w, t in zip(weights, tensors, strict=True))
    variance = sum((w * t) ** 2 for w, t in zip(weights, tensors, strict=True)) * (1 - 0.3) / 0.3
    assert (np.abs(mean - exact) <= 5 * np.sqrt(variance / draws)).all()


def test_each_adapter_draws_from_its_own_generator():
    one, two = draw(2)
    for name in ("dare_linear", "della_linear", "dare_linear:mergekit"):
        strategy = FAMILY[name]
        params = strategy.params()
        both = strategy.merge([one, two], [1.0, 1.0], params, generators([0, 1]))
        apart = [
            strategy.merge([t], [1.0], params, generators([key]))
            for key, t in enumerate((one, two))
        ]
        assert np.array_equal(both, apart[0] + apart[1])


def test_parameters_out_of_range_are_refused_by_name():
    with pytest.raises(BadRecipe, match="density of 'ties' is 1.5"):
        read_params(FAMILY["ties"], {"density": "1.5"})
    with pytest.raises(BadRecipe, match="elect of 'della' is 'mean'"):
        read_params(FAMILY["della"], {"elect": "mean"})
    with pytest.raises(BadRecipe, match="density=0.0"):
        FAMILY["ties"].merge(draw(1), [1.0], sparse.DensityElect(density=0.0), generators([0]))
