"""Recipes in files: the same as typed, errors with their lines, nothing that grows or runs."""

from __future__ import annotations

import json

import pytest

from adaptkit.errors import BadRecipe
from adaptkit.merge import recipe_file
from adaptkit.refs import WeightedRef, parse


@pytest.fixture
def filled(workspace, lora_pair):
    workspace.add(lora_pair[0], "naval", alias="prod")
    workspace.add(lora_pair[1], "medic")
    return workspace


@pytest.fixture
def written(tmp_path):
    def write(text, name="bridge.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_a_file_gives_the_merge_that_typing_gives(filled, written, tmp_path):
    path = written("""
        adapters:
          - naval@prod
          - ref: medic
            weight: 0.5
            modules: {"*.mlp.*": 0.25, "*q_proj": [0, 1]}
        strategy: ties
        space: knots
        params: {density: 0.7, elect: frequency}
        rank: 6
        seed: 3
        dtype: bfloat16
    """)
    made = filled.compose(path, name="bridge")
    typed = filled.merge(
        ["naval@prod", WeightedRef(parse("medic"), 0.5, {"*.mlp.*": [0.25], "*q_proj": [0, 1]})],
        out=tmp_path / "typed",
        strategy="ties",
        space="knots",
        rank=6,
        seed=3,
        params={"density": 0.7, "elect": "frequency"},
        dtype="bfloat16",
    )
    assert made.recipe.digest == typed.recipe.digest
    assert made.manifest.digest == typed.manifest.digest


def test_what_show_prints_can_be_run_again(filled, written, tmp_path):
    first = filled.merge(
        ["naval@prod=0.7", WeightedRef(parse("medic"), modules={"*.mlp.*": [0.5]})],
        name="bridge",
        energy=0.9,
        extras="drop",
    )
    path = written(
        json.dumps(recipe_file.document(filled.show("bridge").manifest.recipe)), "again.json"
    )
    again = filled.compose(path, out=tmp_path / "again")
    assert again.recipe.digest == first.recipe.digest
    assert again.manifest.digest == first.manifest.digest


def test_a_composition_may_hold_another(filled, written, tmp_path):
    written("adapters: [naval@prod, medic]\nrank: 4", "inner.yaml")
    made = filled.compose(
        written("adapters: [{recipe: inner.yaml, weight: 0.5}, naval]"), out=tmp_path / "out"
    )
    inner = filled.merge(["naval@prod", "medic"], out=tmp_path / "inner", rank=4)
    assert made.recipe.sources[0].digest == inner.manifest.digest
    assert made.recipe.sources[0].weight == 0.5


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", 1, "a recipe is a table"),
        ("- naval", 1, "a recipe is a table"),
        ("strategy: ties", 1, "it has no key 'adapters'"),
        ("adapters: []", 1, "a list of one adapter or more"),
        ("adapters: [naval]\nstratgy: ties", 2, "unknown key 'stratgy'\n  nearest are strategy"),
        ("adapters: [naval]\nrank: many", 2, "'rank' is 'many', and must be a whole number"),
        ("adapters: [naval]\nrank: true", 2, "'rank' is True"),
        (
            "adapters:\n  - naval\n  - {ref: medic, wight: 1}",
            3,
            "unknown key 'wight' of an adapter",
        ),
        ("adapters:\n  - {weight: 1}", 2, "either a ref or a recipe"),
        ("adapters:\n  - {ref: naval, weight: heavy}", 2, "'heavy' is not a number"),
        ("adapters:\n  - {ref: naval, modules: [1]}", 2, "a table of globs"),
        ("adapters:\n  - 3", 2, "a reference or a table"),
        ("adapters: [naval]\nseed: 1\nseed: 2", 3, "the key 'seed' occurs twice"),
        ("adapters: [naval", 1, "it is not YAML"),
        (
            "adapters: [naval]\nseed: 2026-13-45",
            2,
            "a value cannot be read: month must be in 1..12",
        ),
        ("a: 1\nb: &x [1]\nadapters: *x", 2, "it holds an anchor or an alias"),
        ("adapters: !!python/object/apply:os.system [ls]", 1, "it holds a YAML tag"),
    ],
)
def test_a_mistake_is_named_with_its_line(text, line, why, written):
    path = written(text)
    with pytest.raises(BadRecipe) as caught:
        recipe_file.read(path)
    assert f"bridge.yaml, line {line}" in str(caught.value)
    assert why in str(caught.value)


def test_circular_huge_and_missing_recipe_files_are_refused(written, tmp_path):
    path = written("adapters: [{recipe: other.yaml}]")
    written("adapters: [{recipe: bridge.yaml}]", "other.yaml")
    with pytest.raises(BadRecipe, match=r"contains itself: bridge.yaml → other.yaml → bridge.yaml"):
        recipe_file.read(path)
    with pytest.raises(BadRecipe, match=r"bridge.yaml: it is larger than 1,048,576 bytes"):
        recipe_file.read(written("#" * (2 << 20)))
    with pytest.raises(BadRecipe, match="cannot read .*nowhere.yaml"):
        recipe_file.read(tmp_path / "nowhere.yaml")
    with pytest.raises(BadRecipe, match="it is more than 8 levels deep"):
        recipe_file.read(written("[" * 5000))
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(BadRecipe, match=r"x.yaml, line 1: it is not UTF-8"):
        recipe_file.read(tmp_path / "x.yaml")


def test_the_same_adapter_twice_is_refused_as_when_typed(filled, written, tmp_path):
    with pytest.raises(BadRecipe, match="are the same adapter"):
        filled.compose(written("adapters: [naval, naval@prod]"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recipe_file_that_is_a_link_to_itself_is_named(tmp_path):
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    with pytest.raises(BadRecipe, match=r"circle\.yaml"):
        recipe_file.read(tmp_path / "circle.yaml")
