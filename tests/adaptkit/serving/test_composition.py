"""What a request may name as its model."""

from __future__ import annotations

import pytest

from adaptkit.errors import BadReference
from adaptkit.serving.composition import GRAMMAR, parse


def rows(text):
    return [[(str(part.ref), part.weight) for part in row] for row in parse(text).rows()]


def test_the_base_has_no_part():
    assert rows("base") == [[]]


def test_plus_and_stack_are_one_sum():
    wanted = [[("naval@prod", 1.0), ("team/medic@3", 0.4)]]
    assert rows("naval@prod+team/medic@3=0.4") == wanted
    assert rows("stack(naval@prod, team/medic@3=0.4)") == wanted


def test_an_average_divides_and_parallel_keeps_apart():
    assert rows("average(naval, medic=3)") == [[("naval", 0.5), ("medic", 1.5)]]
    assert rows("parallel(naval, medic=3)") == [[("naval", 1.0)], [("medic", 3.0)]]


def test_a_composition_is_written_as_it_is_read():
    for text in ("base", "naval", "naval+medic=-0.4", "average(naval@3, medic)"):
        assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("./naval", "is not the name of a registered adapter"),
        ("hf://fleet/naval", "is not the name of a registered adapter"),
        ("naval++medic", "'' is not the name"),
        ("average(naval", "is not a name"),
        ("naval/../medic", "'naval/../medic' is not a name"),
        ("a+" * 8 + "a", "it has 9 parts, at most 8"),
        ("naval+naval", "names one adapter twice"),
        ("naval=101", "at most 100 is used"),
        ("base=0.5", "'base' stands alone"),
        ("auto+naval", "'auto' stands alone"),
        ("x" * 2000, "more than 1000 characters"),
    ],
)
def test_everything_else_is_refused_with_the_reason(text, why):
    with pytest.raises(BadReference, match=why) as caught:
        parse(text)
    assert caught.value.fix == GRAMMAR  # without the paths and URLs of the command line
