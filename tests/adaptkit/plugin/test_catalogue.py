"""adaptkit.plugin.catalogue: a name has one owner or none, and what is handed in is what it should be."""

from __future__ import annotations

import pytest

from adaptkit.errors import NotFound, PluginError
from adaptkit.extend import MergeStrategy, StorageBackend, Trainer
from adaptkit.plugin.catalogue import KINDS, Catalogue, by_name
from adaptkit_plugins.storage.file import FileBackend
from adaptkit_plugins.strategies.linear import Cat, Linear


def filled():
    catalogue = Catalogue(foreign=lambda plugin: plugin != "ours")
    catalogue.publish("acme", {"strategies": {"linear": 1, "own": 2}})
    catalogue.publish("ours", {"strategies": {"linear": 3}, "backends": {"file": 4}})
    catalogue.publish("zeta", {"strategies": {"linear": 5}})
    return catalogue


def test_a_name_claimed_by_several_belongs_to_none_and_the_way_out_keeps_ours():
    with pytest.raises(PluginError) as raised:
        filled().get("strategies", "linear")
    assert raised.value.what == "the strategy 'linear' is claimed by 3 plugins"
    assert raised.value.why == "acme and ours and zeta"
    assert raised.value.fix == "ADAPTKIT_DISABLE_PLUGINS=acme,zeta leaves 'ours'"
    assert filled().all("strategies") == (2,)
    assert filled().names("strategies") == ("linear", "own")


def test_both_sides_of_a_clash_are_told_of_it():
    assert filled().clashes("zeta") == (
        "the strategy 'linear' is claimed by acme and ours too, so it belongs to neither",
    )
    assert filled().clashes("ours") == (
        "the strategy 'linear' is claimed by acme and zeta too, so it belongs to neither",
    )
    assert filled().clashes("unknown") == ()


def test_a_name_with_one_owner_is_found_and_an_unknown_one_lists_the_nearest_first():
    assert filled().get("backends", "file") == 4
    assert filled().owners("strategies", "own") == [("acme", 2)]
    with pytest.raises(
        NotFound, match="no strategy called 'linea': known are linear, own\n  do this"
    ):
        filled().get("strategies", "linea", fix="do this")
    with pytest.raises(NotFound, match="no trainer called 'x': there is none yet"):
        filled().get("trainers", "x")
    assert filled().owners("trainers", "x") == ()
    assert filled().names("trainers") == ()  # asking makes no entry


def test_what_a_plugin_registers_stands_under_its_names():
    one, two = Linear(), Cat()
    assert by_name(KINDS["strategies"], [one, two]) == {"linear": one, "cat": two}

    class Two(FileBackend):
        schemes = ("one", "two")

    assert by_name(KINDS["backends"], [Two]) == {"one": Two, "two": Two}


class Half(StorageBackend):
    schemes = ("half",)


class Stringy(FileBackend):
    schemes = "s3"


class Nameless(Linear):
    name = ""


class Unnamed(Trainer):
    def train(self, job, report):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("kind", "objects", "message"),
    [
        (
            "strategies",
            [Linear],
            "was handed .*Linear.*: it takes an object of a class derived from .*MergeStrategy",
        ),
        ("strategies", [FileBackend("file:///x")], "it takes an object"),
        ("strategies", [None], "register_merge_strategies was handed None"),
        (
            "backends",
            [FileBackend("file:///x")],
            "it takes a class derived from adaptkit.extend.StorageBackend",
        ),
        ("backends", [Linear], "it takes a class"),
        ("backends", [Half], "is not complete: it lacks list, probe, pull, push"),
        ("backends", [Stringy], "has no name: its class must set schemes, a tuple of strings"),
        ("strategies", [Nameless()], "has no name: its class must set name, a string"),
        ("trainers", [Unnamed()], "has no name"),
        ("strategies", [Linear(), Linear()], "it registers the strategy 'linear' twice"),
    ],
)
def test_an_invalid_object_is_refused_with_the_reason(kind, objects, message):
    with pytest.raises(PluginError, match=message):
        by_name(KINDS[kind], objects)


def test_every_register_hook_is_a_kind():
    from adaptkit import hookspecs

    hooks = {name for name in vars(hookspecs) if name.startswith("register_")}
    assert {kind.hook for kind in KINDS.values()} == hooks
    assert KINDS["strategies"].abc is MergeStrategy
