"""adaptkit.testing.strategies: the built-ins hold to it, and each of its checks can fail."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from adaptkit.extend import MergeStrategy
from adaptkit.testing import StrategyConformance
from adaptkit_plugins.strategies.linear import Cat, Linear, Svd
from adaptkit_plugins.strategies.peft import PeftLinear


class TestBuiltIns(StrategyConformance):
    @pytest.fixture(params=[Linear, Cat, Svd, PeftLinear], ids=lambda kind: kind.name)
    def strategy(self, request):
        return request.param()


@dataclass(frozen=True)
class Density:
    density: float = field(default=0.5, metadata={"help": "share of entries that is kept"})


class Dropping(MergeStrategy[Density]):
    """A random strategy that behaves: each adapter has its own draws."""

    name, formula, reference = "dropping", "D = Σ wᵢ·mᵢ⊙Dᵢ/p", "https://arxiv.org/abs/2311.03099"
    params, spaces, symmetric, identity_at, arity = Density, ("dense", "core"), True, None, (2, 3)

    def merge(self, tensors, weights, params, rngs):
        kept = [
            t * (rng.random(t.shape) < params.density) / params.density
            for t, rng in zip(tensors, rngs, strict=True)
        ]
        return sum((w * t for w, t in zip(weights, kept, strict=True)), start=0 * tensors[0])


class TestARandomOne(StrategyConformance):
    @pytest.fixture(params=[0.1, 0.5, 1.0])
    def params(self, request):
        return Density(request.param)

    @pytest.fixture
    def strategy(self):
        return Dropping()


class Shouting(Linear):
    name = "LINEAR"


class NoSource(Linear):
    reference = "a paper"


class Nowhere(Linear):
    spaces = ("somewhere",)


@dataclass(frozen=True)
class Undocumented:
    density: float = 0.5


class Silent(Linear):
    params = Undocumented


@dataclass(frozen=True)
class Untypable:
    densities: tuple[float, ...] = field(default=(0.5,), metadata={"help": "one for each adapter"})


class Mute(Linear):
    params = Untypable


class Narrow(Linear):
    def merge(self, tensors, weights, params, rngs):
        return super().merge(tensors, weights, params, rngs)[:, :1]


class Halving(Linear):
    def merge(self, tensors, weights, params, rngs):
        return super().merge(tensors, weights, params, rngs).astype(np.float16)


class Dividing(Linear):
    def merge(self, tensors, weights, params, rngs):
        with np.errstate(all="ignore"):
            return super().merge(tensors, weights, params, rngs) / np.abs(tensors[0])


class InPlace(Linear):
    def merge(self, tensors, weights, params, rngs):
        tensors[0][...] *= weights[0]
        return super().merge(tensors, [1, *weights[1:]], params, rngs)


class Dice(Linear):
    def merge(self, tensors, weights, params, rngs):
        return super().merge(tensors, weights, params, rngs) * np.random.random()


class FreshDice(Linear):
    def merge(self, tensors, weights, params, rngs):
        return super().merge(tensors, weights, params, rngs) * np.random.default_rng().random()


class Biased(Linear):
    def merge(self, tensors, weights, params, rngs):
        return super().merge(tensors, weights, params, rngs) + 1e-3


class Averaging(Linear):
    def merge(self, tensors, weights, params, rngs):
        return super().merge(tensors, weights, params, rngs) * 0.5


class First(Linear):
    def merge(self, tensors, weights, params, rngs):
        return tensors[0] * weights[0]


class OneGenerator(Dropping):
    def merge(self, tensors, weights, params, rngs):
        return super().merge(tensors, weights, params, [rngs[0]] * len(tensors))


@pytest.mark.parametrize(
    ("bad", "check"),
    [
        (Shouting, "test_it_says_what_it_is"),
        (NoSource, "test_it_says_what_it_is"),
        (Nowhere, "test_it_says_what_it_is"),
        (Mute, "test_every_parameter_is_documented_and_can_be_typed"),
        (Silent, "test_every_parameter_is_documented_and_can_be_typed"),
        (Narrow, "test_the_result_has_the_tensors_shape_and_is_finite"),
        (Halving, "test_the_result_has_the_tensors_shape_and_is_finite"),
        (Dividing, "test_the_result_has_the_tensors_shape_and_is_finite"),
        (InPlace, "test_inputs_are_left_as_they_were"),
        (Dice, "test_the_same_seed_gives_the_same_bytes"),
        (FreshDice, "test_the_same_seed_gives_the_same_bytes"),
        (Biased, "test_zeros_give_zeros"),
        (Averaging, "test_one_adapter_at_its_identity_weight_comes_back"),
        (First, "test_order_does_not_matter_where_it_says_so"),
        (OneGenerator, "test_order_does_not_matter_where_it_says_so"),
        (Averaging, "test_coefficients_tell_the_truth"),
    ],
)
def test_each_check_catches_what_it_is_for(bad, check):
    strategy = bad()
    given = (
        {"params": strategy.params()}
        if "params" in getattr(StrategyConformance, check).__code__.co_varnames
        else {}
    )
    with pytest.raises(AssertionError):
        getattr(StrategyConformance(), check)(strategy=strategy, **given)


class Listing(Linear):
    def merge(self, tensors, weights, params, rngs):
        return [0.0]


class OneWord(Linear):
    spaces = "dense"


@pytest.mark.parametrize(
    ("bad", "check", "message"),
    [
        (Nowhere, "test_it_says_what_it_is", "there is no space ['somewhere']: known are core"),
        (OneWord, "test_it_says_what_it_is", "spaces are a tuple, such as ('dense',)"),
        (
            Listing,
            "test_zeros_give_zeros",
            "merge returns a numpy array, not an object of the type list",
        ),
        (
            Averaging,
            "test_one_adapter_at_its_identity_weight_comes_back",
            "one adapter of the weight 1.0 does not come back as it was, in the space 'core'",
        ),
        (
            Averaging,
            "test_coefficients_tell_the_truth",
            "merge does not give Σ cᵢ·Dᵢ of what `coefficients` returns",
        ),
        (InPlace, "test_inputs_are_left_as_they_were", "merge changed its tensors"),
    ],
)
def test_a_check_says_in_words_what_is_wrong(bad, check, message):
    strategy = bad()
    given = {"params": strategy.params()} if "says" not in check else {}
    with pytest.raises(AssertionError) as caught:
        getattr(StrategyConformance(), check)(strategy=strategy, **given)
    assert message in str(caught.value)


def test_every_check_is_in_the_table_above():
    checks = {name for name in vars(StrategyConformance) if name.startswith("test_")}
    (table,) = [mark.args[1] for mark in test_each_check_catches_what_it_is_for.pytestmark]
    assert {check for _, check in table} == checks
