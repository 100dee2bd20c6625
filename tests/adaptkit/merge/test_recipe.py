"""What a recipe resolves to before a tensor is read."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from adaptkit.errors import BadRecipe, NotFound
from adaptkit.extend import MergeStrategy
from adaptkit.merge import recipe
from adaptkit.plugin.manager import Plugins
from adaptkit.types import Parent


@dataclass(frozen=True)
class Params:
    density: float = field(
        default=0.5, metadata={"help": "share of entries kept", "range": (0.0, 1.0)}
    )
    rescale: bool = field(default=True, metadata={"help": "divide by the density"})
    rounds: int = field(default=2, metadata={"help": "how often"})
    sign: str = field(
        default="total", metadata={"help": "how signs are elected", "choices": ("total", "count")}
    )


class Ties(MergeStrategy):
    name = "ties-like"
    params = Params
    spaces = ("core", "dense")
    arity = (2, 3)

    def merge(self, tensors, weights, params, rngs):
        return tensors[0]


TWO = [Parent("sha256:a", 0.7, label="naval"), Parent("sha256:b", 0.3, label="medic")]


def resolve(sources=TWO, **choices):
    return recipe.resolve(Ties(), sources, [{} for _ in sources], recipe.Choices(**choices))


def test_the_digest_does_not_depend_on_labels_and_never_changes():
    renamed = [Parent(p.digest, p.weight, label="x" + p.label) for p in TWO]
    assert resolve().digest == resolve(renamed).digest
    assert (
        resolve().digest
        == "sha256:63006c202ce4b1130990765bc8b647afa919d9db567a301a78571b19fae016b5"
    )
    assert resolve().digest != resolve(seed=1).digest


def test_parameters_are_complete_and_typed():
    assert resolve(params={"density": "0.25", "rescale": "no"}).params == {
        "density": 0.25,
        "rescale": False,
        "rounds": 2,
        "sign": "total",
    }


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"density": "1.5"},
            r"the parameter density of 'ties-like' is 1.5: it must be in \[0.0, 1.0\]",
        ),
        ({"density": "nan"}, "the parameter density"),
        ({"density": "much"}, "is 'much': it must be a number"),
        ({"rounds": "2.5"}, "is '2.5': it must be a whole number"),
        ({"rescale": "maybe"}, "is 'maybe': it must be true or false"),
        ({"sign": "frequency"}, "it must be one of total, count"),
    ],
)
def test_a_parameter_out_of_range_is_named_with_its_range(params, message):
    with pytest.raises(BadRecipe, match=message):
        resolve(params=params)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            {"params": {"densty": "1"}},
            "no parameter of 'ties-like' called 'densty': known are density",
        ),
        ({"space": "dens"}, "no space called 'dens': known are dense"),
        ({"dtype": "float23"}, "no dtype called 'float23': known are float32"),
        ({"missing": "skp"}, "known are skip"),
    ],
)
def test_an_unknown_word_shows_the_nearest_known(choices, message):
    with pytest.raises(NotFound, match=message):
        resolve(**choices)


@pytest.mark.parametrize(
    ("sources", "choices", "message"),
    [
        (TWO[:1], {}, "takes 2 to 3 adapters: 1 given"),
        (
            [TWO[0], Parent("sha256:b", float("nan"), label="medic")],
            {},
            "the weight of medic is nan",
        ),
        (
            [TWO[0], Parent("sha256:b", float("inf"), label="medic")],
            {},
            "the weight of medic is inf",
        ),
        (
            [Parent("sha256:a", 0.0, label="n"), Parent("sha256:b", 0.0, label="m")],
            {},
            "all weights are zero",
        ),
        (
            [Parent("sha256:a", 1.0, label="n"), Parent("sha256:b", -1.0, label="m")],
            {"normalize": True},
            "add up to zero",
        ),
        (TWO, {"rank": 0}, "--rank is 0: a rank is at least 1"),
        (TWO, {"space": "factors"}, "no meaning in the space 'factors': it works in core, dense"),
        (TWO, {"extras": "avrage"}, "--extras is 'avrage'"),
        (TWO, {"extras": "from=cargo"}, "--extras is 'from=cargo'"),
    ],
)
def test_impossible_recipe_options_are_refused(sources, choices, message):
    with pytest.raises(BadRecipe, match=message):
        resolve(sources, **choices)


def test_the_same_adapter_twice_names_the_single_weight_to_use():
    twice = [
        Parent("sha256:a", 0.7, label="naval@prod"),
        Parent("sha256:a", 0.3, label="./out/naval"),
    ]
    with pytest.raises(
        BadRecipe, match=r"'naval@prod' and './out/naval' are the same adapter"
    ) as caught:
        resolve(twice)
    assert "naval@prod=1" in str(caught.value)


def test_normalising_divides_by_the_sum_and_is_written_down():
    made = resolve(
        [Parent("sha256:a", 3.0, label="n"), Parent("sha256:b", 1.0, label="m")], normalize=True
    )
    assert [s.weight for s in made.sources] == [0.75, 0.25]


def test_from_is_pinned_to_a_digest():
    assert resolve(extras="from=medic").extras == "from=sha256:b"


@pytest.mark.parametrize(
    ("chosen", "name", "why", "fix"),
    [
        (["ties"], "densty", "known are density, elect", ""),
        (["linear"], "densty", "it takes none", "density is a parameter of ctm, dare_linear, "),
        (["linear"], "x", "it takes none", ""),
        (["ties", "slerp"], "densty", "known are density, ", ""),
        (["ties"], "floor", "known are ", "floor is a parameter of svc: --strategy NAME"),
    ],
)
def test_a_parameter_that_no_chosen_strategy_has_is_named_with_the_nearest(chosen, name, why, fix):
    plugins = Plugins.from_environment()
    strategies = [plugins.strategy(one) for one in chosen]
    with pytest.raises(NotFound) as caught:
        recipe.check_params(strategies, {name: "1"}, plugins.strategies)
    of = f"'{chosen[0]}'" if len(chosen) == 1 else "these strategies"
    assert caught.value.what == f"no parameter of {of} called '{name}'"
    assert caught.value.why.startswith(why)
    assert caught.value.fix.startswith(fix)
    assert bool(caught.value.fix) == bool(fix)
