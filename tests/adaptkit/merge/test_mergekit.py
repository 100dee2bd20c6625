"""adaptkit.merge.mergekit: mergekit's YAML becomes a recipe that compose runs."""

from __future__ import annotations

import pytest
import yaml
from command_line import Shell

from adaptkit.errors import AdaptkitError
from adaptkit.merge import mergekit
from adaptkit.plugin.manager import Plugins

STRATEGIES = Plugins.from_environment().strategies()

TIES = """
merge_method: ties
base_model: meta/llama
models:
  - model: meta/llama
  - model: meta/llama+./naval
    parameters: {weight: 0.7, density: 0.4}
  - model: meta/llama+fleet/medic
    parameters:
      weight:
        - {filter: mlp, value: 0.5}
        - value: 0.3
parameters: {normalize: true, int8_mask: true, lambda: 1.0}
dtype: bfloat16
"""


def read(tmp_path, text):
    (tmp_path / "merge.yml").write_text(text)
    return mergekit.read(tmp_path / "merge.yml", STRATEGIES)


def test_weights_densities_and_filters_are_carried_over(tmp_path):
    found = read(tmp_path, TIES)
    assert found.recipe == {
        "adapters": [
            {"ref": "./naval", "weight": 0.7},
            {"ref": "hf://fleet/medic", "weight": 0.3, "modules": {"*mlp*": 0.5}},
        ],
        "strategy": "ties:mergekit",
        "params": {"density": 0.4},
        "normalize": True,
        "dtype": "bfloat16",
    }
    assert found.remarks == ("the parameter 'lambda' has no counterpart and is left out",)
    assert yaml.safe_load(mergekit.as_yaml(found)) == found.recipe


def test_the_share_of_slerp_becomes_two_weights(tmp_path):
    found = read(
        tmp_path,
        "merge_method: slerp\nmodels: [{model: b+./a}, {model: b+./c}]\nparameters: {t: 0.25}\n",
    )
    assert [one["weight"] for one in found.recipe["adapters"]] == [0.75, 0.25]


def test_the_density_of_breadcrumbs_is_what_stays_between_the_ends(tmp_path):
    found = read(
        tmp_path,
        "merge_method: breadcrumbs\nmodels: [{model: b+./a}, {model: b+./c}]\n"
        "parameters: {density: 0.9, gamma: 0.03}\n",
    )
    assert found.recipe["params"] == {"gamma": 0.03, "beta": 0.07}


def test_a_linear_merge_is_normalised_as_mergekit_does(tmp_path):
    text = "merge_method: {}\nmodels: [{{model: b+./a}}, {{model: b+./c}}]\n"
    assert read(tmp_path, text.format("linear")).recipe["normalize"] is True
    assert "normalize" not in read(tmp_path, text.format("task_arithmetic")).recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adapters: [a]", "it has no key 'merge_method'"),
        ("merge_method: passthrough\nmodels: [{model: a}]", "known are"),
        ("merge_method: ties\nslices: []", "it stacks slices of layers"),
        ("merge_method: ties", "'models' is a list of one model or more"),
        ("merge_method: ties\nmodels: [{model: 'b+'}]", "a model has no name"),
        ("merge_method: ties\nbase_model: b\nmodels: [{model: b}]", "no model besides the base"),
        ("merge_method: [", "it is not YAML"),
        ("a: &x 1\nb: *x", "line 1, as a recipe of mergekit: it holds an anchor or an alias"),
    ],
)
def test_what_has_no_meaning_for_adapters_is_an_error_message(text, message, tmp_path):
    with pytest.raises(AdaptkitError, match=message.replace("+", r"\+")):
        read(tmp_path, text)


def test_every_method_of_mergekit_has_one_strategy():
    made = [name for one in STRATEGIES for name in one.mergekit]
    assert len(made) == len(set(made))
    assert {"linear", "ties", "dare_ties", "dare_linear", "slerp", "della", "sce"} <= set(made)


def test_a_translated_file_is_composed_and_compose_points_to_the_translation(tmp_path):
    shell = Shell(tmp_path)
    shell.run("demo", "fleet")
    shell.run("init")
    (tmp_path / "merge.yml").write_text(
        "merge_method: dare_ties\nmodels:\n"
        "  - {model: ship+fleet/naval, parameters: {weight: 0.6, density: 0.5}}\n"
        "  - {model: ship+fleet/medic, parameters: {weight: [0.2, 0.8]}}\n"
    )
    error = shell.refused("compose", "merge.yml", "--name", "bridge")
    assert "it is a recipe of mergekit" in error
    assert "adaptkit recipe from-mergekit" in error
    (tmp_path / "bridge.yaml").write_text(shell.run("recipe", "from-mergekit", "merge.yml").stdout)
    made = shell.json("compose", "bridge.yaml", "--name", "bridge")
    assert made["strategy"] == "dare_ties:mergekit"
    assert [source["weight"] for source in made["sources"]] == [0.6, 0.2]
