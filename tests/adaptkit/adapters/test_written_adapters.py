"""What leaves adaptkit is opened again; what should not be in it does not get in."""

from __future__ import annotations

import shutil

import pytest
import tiny

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.reload import check_reload, unreadable
from adaptkit.errors import BadAdapter, BadRecipe, BaseMismatch, MergeError, Unmergeable
from adaptkit.plugin.manager import Plugins

PLUGINS = Plugins.from_environment()


def problems(folder):
    with Adapter.open(folder) as adapter:
        return unreadable(adapter, PLUGINS.method_for(adapter))


def test_what_peft_saved_is_readable(lora_pair):
    assert problems(lora_pair[0]) == []


def test_modules_ranks_and_saved_modules_that_do_not_agree_are_named(tmp_path):
    folder = tiny.make_adapter(
        tiny.llama(), tmp_path / "ad", 0, target_modules=["q_proj", "v_proj"]
    )
    tiny.edit_config(folder, target_modules=["q_proj"], r=4, modules_to_save=["score"])
    found = "; ".join(problems(folder))
    assert (
        "the file has 'model.layers.0.self_attn.v_proj', which target_modules does not name"
        in found
    )
    assert "has rank 8, and the configuration says 4" in found
    assert "modules_to_save names 'score', for which the file has nothing" in found
    with Adapter.open(folder) as adapter, pytest.raises(MergeError, match="PEFT could not load"):
        check_reload(adapter, PLUGINS.method_for(adapter))


def test_adapters_that_share_no_module_do_not_merge_by_accident(workspace, tmp_path):
    one = tiny.make_adapter(tiny.llama(), tmp_path / "one", 0, target_modules=["q_proj"])
    two = tiny.make_adapter(tiny.llama(), tmp_path / "two", 1, target_modules=["v_proj"])
    with pytest.raises(Unmergeable, match="shares no module with the others") as caught:
        workspace.merge({one: 1.0, two: 1.0}, out=tmp_path / "out")
    assert "--disjoint" in caught.value.fix
    assert workspace.diff({one: 1.0, two: 1.0}).advice == "do not merge them"
    assert "do not merge them" in repr(workspace.diff({one: 1.0, two: 1.0}))
    workspace.merge({one: 1.0, two: 1.0}, out=tmp_path / "both", missing="disjoint")
    tiny.reload_strictly(tiny.llama(), tmp_path / "both")


def test_diff_looks_at_the_bases_first_and_says_nothing_that_merge_would_refuse(
    workspace, tmp_path
):
    from adaptkit.cli.merge.compare import compared

    wide = tiny.save_llama(tmp_path / "base", hidden_size=64)
    folders = [
        tiny.make_adapter(tiny.llama(), tmp_path / name, 1, target_modules=["q_proj"])
        for name in ("one", "two")
    ] + [tiny.save_adapter(wide, tmp_path / "wide", 1, target_modules=["q_proj"])]
    for folder, base in zip(folders, ("fleet/ship", "fleet/boat", "fleet/liner"), strict=True):
        tiny.edit_config(folder, base_model_name_or_path=base)
    one, two, wide = folders
    found = workspace.diff([str(one), str(two)])
    assert found.advice == "do not merge them"
    assert "are for different bases" in found.reason
    assert compared(found)[0] == "do not merge them"
    with pytest.raises(BaseMismatch, match="are for different bases"):
        workspace.diff([str(one), str(wide)])


def test_a_head_is_taken_out_of_one_adapter(workspace, tmp_path):
    from safetensors import safe_open

    folder = tiny.make_adapter(
        tiny.llama(), tmp_path / "ad", 0, target_modules=["q_proj"], modules_to_save=["lm_head"]
    )
    made = workspace.strip(str(folder), heads=True, out=tmp_path / "out")
    assert made.left_out == ("base_model.model.lm_head.weight",)
    assert tiny.read_config(tmp_path / "out")["modules_to_save"] is None
    with safe_open(tmp_path / "out" / "adapter_model.safetensors", "np") as file:
        assert all(".lora_" in key for key in file.keys())  # noqa: SIM118  (safe_open is no dict)
    tiny.reload_strictly(tiny.llama(), tmp_path / "out")
    fewer = workspace.strip(str(folder), modules=["*.layers.0.*"], out=tmp_path / "fewer")
    assert len(fewer.left_out) == 2
    assert tiny.read_config(tmp_path / "fewer")["target_modules"] == [
        "model.layers.1.self_attn.q_proj"
    ]
    with pytest.raises(BadRecipe, match="no part is named"):
        workspace.strip(str(folder), out=tmp_path / "none")


def test_a_pickle_beside_safetensors_never_enters_an_artifact(workspace, tmp_path):
    import torch

    folder = tiny.make_adapter(tiny.llama(), tmp_path / "ad", 0, target_modules=["q_proj"])
    torch.save({"x": torch.zeros(1)}, folder / "adapter_model.bin")
    workspace.add(folder, "naval")
    assert not (workspace.path("naval") / "adapter_model.bin").exists()
    assert "adapter_model.bin stays out: adapter_model.safetensors beside it" in " ".join(
        workspace.noticed
    )
    place = (tmp_path / "place" / "naval").as_uri()
    workspace.push("naval", place)
    assert not list((tmp_path / "place").rglob("*.bin"))


def test_a_tokenizer_or_text_of_a_size_that_none_has_is_refused_before_it_is_read(
    workspace, lora_pair, tmp_path
):
    for name in ("tokenizer.json", "README.md", "chat_template.jinja"):
        folder = shutil.copytree(lora_pair[0], tmp_path / name)
        with (folder / name).open("wb") as file:
            file.truncate(40 << 30)
        with pytest.raises(BadAdapter, match=rf"{name} has 42,949,672,960 bytes: more than"):
            workspace.add(folder, "naval")
