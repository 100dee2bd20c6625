"""Variants of a base's files, as `save_pretrained(variant="fp16")` names them: whole and in shards."""

from __future__ import annotations

import json
import shutil

import pytest

from adaptkit.bases.identity import measure
from adaptkit.errors import BadBase
from adaptkit.extend.artifact_files import BaseFiles, base_files


def saved(source, folder, variant, *, sharded):
    from transformers import LlamaForCausalLM

    size = {"max_shard_size": "40KB"} if sharded else {}
    LlamaForCausalLM.from_pretrained(source).save_pretrained(folder, variant=variant, **size)
    return folder


@pytest.fixture(params=["whole", "sharded"])
def sharded(request):
    return request.param == "sharded"


@pytest.fixture
def half(tiny_llama, tmp_path, sharded):
    return saved(tiny_llama, tmp_path / "half", "fp16", sharded=sharded)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["model.fp16.safetensors"], BaseFiles("", "model.fp16.safetensors", "fp16")),
        (
            ["model.fp16-00001-of-00002.safetensors", "model.safetensors.index.fp16.json"],
            BaseFiles("model.safetensors.index.fp16.json", "", "fp16"),
        ),
        (
            ["diffusion_pytorch_model.safetensors.index.bf16.json"],
            BaseFiles("diffusion_pytorch_model.safetensors.index.bf16.json", "", "bf16"),
        ),
        (
            ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.non_ema.safetensors"],
            BaseFiles(
                "",
                "diffusion_pytorch_model.safetensors",
                "",
                ("diffusion_pytorch_model.non_ema.safetensors",),
            ),
        ),
        (
            ["pytorch_model.fp16.bin", "model.fp16.safetensors"],
            BaseFiles("", "model.fp16.safetensors", "fp16"),
        ),
        (
            ["model.bf16.safetensors", "model.fp16.safetensors"],
            BaseFiles(others=("model.bf16.safetensors", "model.fp16.safetensors")),
        ),
        (["model.00001-of-00002.safetensors", "config.json", "vocab.index.json"], BaseFiles()),
    ],
)
def test_which_files_of_a_folder_are_the_weights(names, wanted):
    assert base_files(names) == wanted


def test_a_variant_alone_has_the_identity_of_its_tensors(half, tiny_llama, workspace, sharded):
    assert not (half / "model.safetensors").exists()
    here, plain = measure(half), measure(tiny_llama)
    assert here.level("tm1") == plain.level("tm1")
    assert here.level("as1") == plain.level("as1")
    assert (here.level("fs1") == plain.level("fs1")) is not sharded
    found = workspace.check_base(half)
    assert found.model_class == "LlamaForCausalLM"
    assert found.remarks == (
        "its weights are the variant fp16, since the plain files are not there: load it with variant='fp16'",
    )


def test_a_bake_into_a_variant_is_loaded_as_that_variant(
    half, tiny_llama, lora_pair, workspace, tmp_path
):
    import torch
    from transformers import LlamaForCausalLM

    workspace.bake(str(lora_pair[0]), half, tmp_path / "out", force=True)
    workspace.bake(str(lora_pair[0]), tiny_llama, tmp_path / "plain", force=True)
    assert any("load it with variant='fp16'" in note for note in workspace.noticed)
    made = LlamaForCausalLM.from_pretrained(tmp_path / "out", variant="fp16").state_dict()
    wanted = LlamaForCausalLM.from_pretrained(tmp_path / "plain").state_dict()
    assert all(torch.equal(made[name], wanted[name]) for name in wanted)


def test_where_the_plain_files_are_there_too_they_count_and_that_is_said(
    half, tiny_llama, lora_pair, workspace, tmp_path, sharded
):
    for file in tiny_llama.iterdir():
        shutil.copy(file, half / file.name)
    other = "model.safetensors.index.fp16.json" if sharded else "model.fp16.safetensors"
    said = f"{other} was not read: the plain files count"
    assert measure(half).level("fs1") == measure(tiny_llama).level("fs1")
    assert workspace.check_base(half).remarks == (said,)
    workspace.add(lora_pair[0], "naval", base=str(half))
    assert workspace.noticed == [f"{half}: {said}"]
    workspace.bake("naval", half, tmp_path / "out")
    assert said in workspace.noticed
    assert [p.name for p in (tmp_path / "out").glob("model*")] == ["model.safetensors"]


def test_two_variants_without_the_plain_files_are_refused(half, tiny_llama, workspace, sharded):
    saved(tiny_llama, half, "bf16", sharded=sharded)
    with pytest.raises(BadBase, match="holds several variants of a model") as caught:
        workspace.check_base(half)
    assert "bf16" in caught.value.why
    assert "fp16" in caught.value.why


def test_a_shard_that_a_variants_index_names_and_that_is_missing_is_named(
    tiny_llama, tmp_path, workspace
):
    half = saved(tiny_llama, tmp_path / "half", "fp16", sharded=True)
    index = json.loads((half / "model.safetensors.index.fp16.json").read_text())
    name = sorted(index["weight_map"].values())[0]
    assert name.startswith("model.fp16-00001-of-")
    (half / name).unlink()
    with pytest.raises(BadBase, match="is incomplete") as caught:
        workspace.check_base(half)
    assert caught.value.why == f"model.safetensors.index.fp16.json names {name}, which is missing"
