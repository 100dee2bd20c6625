"""What a search chooses from, and the front of what it found."""

from __future__ import annotations

import pytest

from adaptkit.errors import BadRecipe
from adaptkit.plugin.manager import Plugins
from adaptkit.search.candidates import (
    Candidate,
    SearchSpace,
    option_of,
    parse_range,
)
from adaptkit.search.found import Found, Tried, front_of


class First:
    """Chooses the first of what is offered, and remembers the names."""

    def __init__(self):
        self.names = []

    def suggest_categorical(self, name, choices):
        self.names.append(name)
        return choices[0]

    def suggest_float(self, name, low, high, *, step=None):
        self.names.append(name)
        return low


@pytest.fixture(scope="module")
def plugins():
    return Plugins.from_environment()


def tried(number, skills, size, error=""):
    return Tried(number, Candidate("linear", "core", (1.0, 1.0)), {}, skills, size, error)


def test_shares_and_named_choices_are_searched_under_the_strategys_name(plugins):
    option = option_of(plugins.strategy("ties"), (), {})
    assert option.shares == {"density": (0.05, 1.0)}
    assert option.choices == {"elect": ("total", "frequency")}
    assert option.spaces == ("core", "knots")
    trial = First()
    space = SearchSpace(("naval", "medic"), (option,), (4, 8))
    assert space.suggest(trial) == Candidate(
        "ties", "core", (0.2, 0.2), 4, {"density": 0.05, "elect": "total"}
    )
    assert trial.names == [
        "strategy",
        "ties.space",
        "rank",
        "ties.density",
        "ties.elect",
        "weight.naval",
        "weight.medic",
    ]


def test_a_parameter_is_fixed_by_a_value_and_narrowed_by_a_range(plugins):
    fixed = option_of(plugins.strategy("ties"), ("dense",), {"density": "0.5"})
    assert (fixed.choices["density"], fixed.shares, fixed.spaces) == ((0.5,), {}, ("dense",))
    narrowed = option_of(plugins.strategy("ties"), (), {"density": "0.2:0.4"})
    assert narrowed.shares == {"density": (0.2, 0.4)}


def test_what_is_no_share_keeps_its_default(plugins):
    assert option_of(plugins.strategy("karcher"), (), {}).shares.keys() <= {"tolerance"}


def test_a_strategy_that_keeps_the_whole_sum_is_given_no_rank(plugins):
    space = SearchSpace(("a", "b"), (option_of(plugins.strategy("cat"), (), {}),), (4,))
    assert space.suggest(First()).rank is None
    assert "rank" not in next(space.starts())


@pytest.mark.parametrize("text", ["", "1", "1:0.2", "a:b", "nan:1", "0:inf"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(BadRecipe) as caught:
        parse_range(text, "--weights")
    assert caught.value.what == f"--weights is '{text}'"
    assert caught.value.fix == "--weights 0.2:1"


def test_the_front_has_what_nothing_smaller_beats_and_the_winner_is_its_best():
    trials = (
        tried(0, 0.5, 200),
        tried(1, 0.5, 100),
        tried(2, 0.9, 300),
        tried(3, 0.9, 300),
        tried(4, 0.4, 50, "it broke"),
        tried(5, 0.8, 400),
    )
    assert [one.number for one in front_of(trials)] == [1, 2]
    found = Found("bridge", "file", ("a", "b"), (), trials)
    assert found.winner.number == 2
    assert [one.number for one in found.failed] == [4]


def test_a_candidate_comes_back_from_json():
    one = Candidate("ties", "core", (0.7, 0.3), 8, {"density": 0.5})
    assert Candidate.from_json(one.to_json()) == one
    assert one.text == "core, rank 8, density 0.5"
