"""A glob that names no module is an error that shows the nearest names, wherever it is written."""

from __future__ import annotations

import pytest

from adaptkit.errors import BadRecipe
from adaptkit.refs import WeightedRef, parse


def weighted(folder, glob):
    return [WeightedRef(parse(str(folder)), 1.0, {glob: [0.5]})]


NEAREST = (
    r"'\*\.mpl\.\*' names no module of .*: nearest are .*model\.layers\.\*\.mlp\.down_proj"
    r"(.|\n)*for example .*\[model\.layers\.\*\.mlp\.\w+\]=0\.5"
)


@pytest.mark.parametrize("operation", ["merge", "diff", "merge_into_model"])
def test_a_glob_that_names_nothing_shows_the_nearest_names(
    operation, workspace, lora_pair, tiny_llama, tmp_path
):
    how = {
        "merge": {"out": tmp_path / "out"},
        "diff": {},
        "merge_into_model": {"base": tiny_llama, "out": tmp_path / "out"},
    }[operation]
    with pytest.raises(BadRecipe, match=NEAREST):
        getattr(workspace, operation)(weighted(lora_pair[1], "*.mpl.*"), **how)
    assert not (tmp_path / "out").exists()


def test_a_glob_in_a_recipe_file_is_refused_as_well(workspace, lora_pair, tmp_path):
    file = tmp_path / "bridge.yaml"
    file.write_text(f"adapters: [{{ref: '{lora_pair[0]}', modules: {{'*.mpl.*': 0.5}}}}]\n")
    with pytest.raises(BadRecipe, match=r"'\*\.mpl\.\*' names no module"):
        workspace.compose(file, out=tmp_path / "out")


def test_every_name_that_is_shown_matches(workspace, lora_pair, tmp_path):
    glob = "model.layers.*.mlp.down_proj"
    made = workspace.merge(weighted(lora_pair[0], glob), out=tmp_path / "out")
    assert made.recipe.modules[0].glob == glob
