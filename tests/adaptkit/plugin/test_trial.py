"""adaptkit.plugin.trial: what fails at its first use is found before it."""

from __future__ import annotations

from importlib import import_module

import click
import pytest

from adaptkit.extend import (
    AdapterMethod,
    Engine,
    Executor,
    MergeStrategy,
    StorageBackend,
    Trainer,
)
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


class Deaf(StorageBackend):
    schemes = ("deaf",)

    def pull(self, version, files):
        raise NotImplementedError


class Train(Trainer):
    name = "mine"

    def train(self, job):
        raise NotImplementedError


class Silent(Engine):
    name = "mine"

    def command(self, base, *, host, port, slots, rank_limit):
        return None


class Short(Engine):
    name = "mine"

    def command(self, base, host, port):
        return ("serve", base)


class Odd(Silent):
    def command(self, base, **how):
        return ["serve", base, str(how["port"])]

    def environment(self, rank_limit):
        return {"RANKS": rank_limit}


class Pool(Executor):
    schemes = ("pool",)

    @classmethod
    def open(cls, url):
        raise NotImplementedError


class Half(AdapterMethod):
    name = "half"

    def recognises(self, view):
        return False

    def delta(self, view):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("kind", "value", "wrong"),
    [
        ("strategies", Mean(), ""),
        (
            "strategies",
            Signature(),
            "its merge(self, tensors, weights) is called as merge(self, tensors, weights, params, rngs)",
        ),
        ("strategies", Space(), "its space 'somewhere' is none of core, knots, dense, factors"),
        ("strategies", Flat(), "merge returned (6,) where every tensor was (2, 3)"),
        ("strategies", Needs(), "No module named 'a_library_that_is_not_there'"),
        ("methods", Greedy(), "it recognises an adapter whose peft_type is of no method"),
        ("methods", Vague(), "recognises returned None"),
        ("backends", Scheme, "the scheme 'My-Scheme' is not lower-case letters and digits"),
        (
            "backends",
            Deaf,
            "its pull(self, version, files) is called as pull(self, version, files, into",
        ),
        ("methods", Half(), "its delta(self, view) is called as delta(self, view, module)"),
        ("trainers", Train(), "its train(self, job) is called as train(self, job, report)"),
        ("trainers", object(), ""),
        ("engines", Silent(), "command returned None, which is no tuple of the words"),
        (
            "engines",
            Short(),
            "its command(self, base, host, port) is called as command(self, base, *, host",
        ),
        ("engines", Odd(), "environment returned {'RANKS': 16}, which is no mapping of texts"),
        ("commands", click.Command("x", callback=lambda: 0), ""),
        ("commands", click.Group("x"), ""),
        (
            "commands",
            click.Command("x", params=[click.Option(["--size"])], callback=lambda: 0),
            "its function cannot be called with size: got an unexpected keyword argument 'size'",
        ),
        ("executors", Pool, "its open(cls, url) is called as open(cls, url, *, workers, needs)"),
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
