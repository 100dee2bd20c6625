"""What an `adaptkit.json` may hold: every wrong field is refused, by name, where the file is read."""

from __future__ import annotations

import copy
import json

import pytest
from artifacts import manifest

from adaptkit.types import BaseIdentity, Level, Manifest, Parent, PlacedVersion

GOOD = PlacedVersion(
    3,
    manifest(
        1,
        base=BaseIdentity("fleet/ship", (Level("tm1:" + "a" * 64, measured=True),)),
        parents=(Parent("sha256:" + "1" * 64, 0.7, "merged", "naval@1"),),
        recipe={"strategy": "ties"},
        facts={"forced": ["base"], "other": {"kept": 1}},
        created="2026-01-01T00:00:00Z",
    ),
    "naval",
    "first",
    "ada",
)
LONE = "\ud800"
WRONG = [
    ("schema", 2),
    ("schema", "1"),
    ("schema", None),
    ("digest", 7),
    ("digest", ""),
    ("digest", "md5:1"),
    ("digest", "sha256:" + "g" * 64),
    ("files", None),
    ("files", {}),
    ("files", [7]),
    ("files", [{"path": "a"}]),
    ("files", "x"),
    ("files.0.path", 7),
    ("files.0.path", "p" * 401),
    ("files.0.size", -1),
    ("files.0.size", "1"),
    ("files.0.size", True),
    ("files.0.size", 1e30),
    ("files.0.size", 2**64),
    ("files.0.sha256", None),
    ("files.0.sha256", "f" * 65),
    ("files.0.more", 1),
    ("method", None),
    ("method", 7),
    ("method", "m" * 65),
    ("method", LONE),
    ("method", []),
    ("rank", "8"),
    ("rank", -1),
    ("rank", 1e30),
    ("rank", 8.5),
    ("rank", True),
    ("rank", 10**9),
    ("base", []),
    ("base", "ship"),
    ("base.name", 7),
    ("base.name", "n" * 401),
    ("base.name", LONE),
    ("base.levels", []),
    ("base.levels.tm1", "x"),
    ("base.levels.tm1.value", 7),
    ("base.levels.tm1.value", "v" * 81),
    ("base.levels.tm1.measured", "yes"),
    ("base.quantised", 4),
    ("base.quantised", {"method": "q"}),
    ("base.derived_from", 7),
    ("extras", None),
    ("extras", [[]]),
    ("parents", {}),
    ("parents", [1]),
    ("parents.0.weight", "much"),
    ("parents.0.weight", float("nan")),
    ("parents.0.weight", float("inf")),
    ("parents.0.weight", 1e30),
    ("parents.0.role", 7),
    ("parents.0.role", "r" * 33),
    ("parents.0.label", ["x"]),
    ("parents.0.label", "l" * 401),
    ("parents.0.digest", "x"),
    ("parents.0.more", 1),
    ("recipe", []),
    ("recipe", "ties"),
    ("recipe.weight", float("nan")),
    ("recipe.text", LONE),
    ("recipe.long", "x" * 100_001),
    ("facts", []),
    ("facts.loss", 0.25),
    ("facts.forced", 7),
    ("facts.forced", [1]),
    ("facts.training", "data"),
    ("facts.made_with", {"torch": 2}),
    ("facts.any", 1e40),
    ("facts.any", "\0"),
    ("created", 7),
    ("created", "c" * 65),
    ("number", 0),
    ("number", -1),
    ("number", "3"),
    ("number", 3.0),
    ("number", True),
    ("number", 10**9),
    ("number", 10**30),
    ("number", None),
    ("name", 7),
    ("name", "n" * 201),
    ("name", LONE),
    ("message", None),
    ("message", ["x"]),
    ("message", "m" * 10_001),
    ("message", "ü" * 5_001),
    ("author", {}),
    ("author", "a" * 201),
]


def changed(path, value):
    data = copy.deepcopy(GOOD.to_json())
    *steps, last = path.split(".")
    inner = data
    for step in steps:
        inner = inner[int(step)] if step.isdigit() else inner[step]
    inner[last] = value
    return data


@pytest.mark.parametrize(("path", "value"), WRONG, ids=lambda value: repr(value)[:40])
def test_every_wrong_field_is_refused_where_the_file_is_read(path, value):
    with pytest.raises((ValueError, TypeError, KeyError)) as caught:
        PlacedVersion.from_json(changed(path, value))
    assert str(caught.value)


@pytest.mark.parametrize("data", [None, [], "x", 7, {}], ids=repr)
def test_what_is_no_manifest_at_all_is_refused(data):
    with pytest.raises((ValueError, TypeError, KeyError)):
        Manifest.from_json(data)


def test_what_is_nested_too_deeply_is_refused():
    deep = {}
    for _ in range(100):
        deep = {"in": deep}
    with pytest.raises(ValueError, match="nested deeper than 64"):
        PlacedVersion.from_json(changed("facts", deep))


def test_the_error_message_names_the_field_and_what_is_wrong_with_it():
    with pytest.raises(ValueError, match=r"in 'files\[0\]\.size': Expected `int`, got `str`"):
        PlacedVersion.from_json(changed("files.0.size", "1"))


def test_what_adaptkit_writes_is_read_back_the_same():
    assert PlacedVersion.from_json(json.loads(json.dumps(GOOD.to_json()))) == GOOD
    assert len(WRONG) >= 62


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": 3},
        {"loss": {"error": "much"}},
        {"forced": "base"},
        {"warnings": [1]},
        {"converted_from": {"notes": "one"}},
        {"training": []},
        {"training": {"data": 5}},
        {"training": {"data": [{"label": ["naval"]}]}},
        {"training": {"curve": [["first", 0.5]]}},
        {"training": {"config": "rank 8"}},
        {"training": {"datasets": "org/naval"}},
        {"cannot_bake": 1},
        {"search": []},
    ],
    ids=str,
)
def test_a_fact_of_another_type_is_left_out_and_its_artifact_can_still_be_read(wrong):
    data = manifest(1).to_json() | {"facts": wrong | {"found": {"place": "x"}, "other": [1]}}
    assert Manifest.from_json(data).facts == {"found": {"place": "x"}, "other": [1]}
