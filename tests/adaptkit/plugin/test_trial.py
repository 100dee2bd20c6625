"""adaptkit.plugin.trial: what fails at its first use is found before it."""

from __future__ import annotations

from importlib import import_module

import pytest

from adaptkit.extend import AdapterMethod, MergeStrategy, StorageBackend
from adaptkit.plugin.manager import Plugins
from adaptkit.plugin.trial import try_out


class Mean(MergeStrategy):
    name, formula, reference = "mean", "D = mean Dᵢ", "https://example.org"

    def merge(self, tensors, weights, params, rngs):
        return sum(tensors[1:], start=tensors[0]) / len(tensors)


class Signature(Mean):
    def merge(self, tensors, weights):
        return tensors[0]


class Space(Mean):
    spaces = ("core", "somewhere")


class Flat(Mean):
    def merge(self, tensors, weights, params, rngs):
        return tensors[0].ravel()


class Needs(Mean):
    def merge(self, tensors, weights, params, rngs):
        return import_module("a_library_that_is_not_there")


class Greedy(AdapterMethod):
    name = "greedy"

    def recognises(self, view):
        return True


class Vague(Greedy):
    def recognises(self, view):
        return None


class Scheme(StorageBackend):
    schemes = ("My-Scheme",)


@pytest.mark.parametrize(
    ("kind", "value", "wrong"),
    [
        ("strategies", Mean(), ""),
        ("strategies", Signature(), "takes 3 positional arguments but 5 were given"),
        ("strategies", Space(), "its space 'somewhere' is none of core, knots, dense, factors"),
        ("strategies", Flat(), "merge returned (6,) where every tensor was (2, 3)"),
        ("strategies", Needs(), "No module named 'a_library_that_is_not_there'"),
        ("methods", Greedy(), "it recognises an adapter whose peft_type is of no method"),
        ("methods", Vague(), "recognises returned None"),
        ("backends", Scheme, "the scheme 'My-Scheme' is not lower-case letters and digits"),
        ("trainers", object(), ""),
    ],
)
def test_what_is_wrong_is_a_clause(kind, value, wrong):
    found = try_out(kind, value)
    assert wrong in found
    assert bool(found) == bool(wrong)


def test_every_built_in_passes():
    assert Plugins.from_environment().tried() == {}


def test_a_method_that_says_what_a_delta_is_can_be_merged():
    class Method(Greedy):
        def delta(self, view, module):
            raise NotImplementedError

    assert Method().unmergeable(None) == ""
    assert "does not say how its updates combine" in Greedy().unmergeable(None)
