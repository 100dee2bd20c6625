"""Folders of other programs: weights that are packed or scaled, timm's models, and sentence-transformers'."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import architectures
import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from adaptkit.errors import BadBase, BakeError

LAYER = "model.layers.0.self_attn.q_proj"
QUANTISED = {  # what each keeps in a layer, of which type
    "GPTQ": {"qweight": "int32", "qzeros": "int32", "scales": "float32"},
    "bitsandbytes 8 bit": {"weight": "int8", "SCB": "float32"},
    "bitsandbytes 4 bit": {"weight": "uint8", "weight.absmax": "float32"},
    "HQQ": {"W_q": "uint8", "scale": "float32", "zero": "float32"},
    "EETQ": {"weight": "int8", "weight_scales": "float32"},
    "compressed-tensors": {"weight_packed": "int32", "weight_scale": "float32"},
    "compressed-tensors, whole numbers": {"weight": "int8"},
    "NVFP4": {"weight_packed": "uint8", "weight_global_scale": "float32"},
    "fp8": {"weight_scale": "float32"},
    "fp8 in blocks": {"weight_scale_inv": "float32"},
    "quanto": {"weight._data": "int8", "weight._scale": "float32"},
    "torchao": {"_weight_qdata": "int8", "_weight_scale": "float32"},
    "AQLM": {"codes": "int8", "codebooks": "float32"},
    "QuIP#": {"Qidxs": "int64"},
    "VPTQ": {"centroids": "float32"},
    "MXFP4": {"down_proj_blocks": "uint8", "down_proj_scales": "uint8"},
}


@pytest.mark.parametrize("kind", QUANTISED)
def test_packed_and_scaled_weights_are_seen_whatever_the_configuration_says(
    kind, tiny_llama, lora_pair, workspace, tmp_path
):
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    for name, dtype in QUANTISED[kind].items():
        tensors[f"{LAYER}.{name}"] = np.ones((4, 4), dtype)
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    assert workspace.check_base(base).quantised
    with pytest.raises(BakeError, match="its weights are quantised: it holds '"):
        workspace.bake(str(lora_pair[0]), base, tmp_path / "out", force=True)


def test_a_timm_that_cannot_be_imported_is_named(workspace, tmp_path, monkeypatch):
    timm(tmp_path / "base")
    config = {"architecture": "vit_small_patch16_224", "num_classes": 3}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    assert (
        "cannot be imported: operator torchvision"
        in workspace.check_base(tmp_path / "base").unknown
    )


def test_whole_numbers_in_buffers_are_no_quantisation(tiny_llama, workspace, tmp_path):
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    tensors["model.embeddings.position_ids"] = np.arange(8)
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    assert workspace.check_base(base).quantised == ""


@pytest.mark.parametrize("components", ["abc", [1], {"a": 5}])
def test_a_configuration_cannot_name_components_of_its_own(
    components, tiny_llama, workspace, tmp_path
):
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"_components": components}))
    assert workspace.check_base(base) == replace(workspace.check_base(tiny_llama), path=str(base))


def timm(folder):
    """As timm's `save_for_hf` lays a model out; config.json says architecture and classes, and no model_type."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    shapes = {"blocks.0.attn.qkv.weight": (24, 8), "head.weight": (3, 8), "head.bias": (3,)}
    tensors = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 3, "num_features": 8}
    config["pretrained_cfg"] = {"num_classes": 3, "classifier": "head"}
    (folder / "config.json").write_text(json.dumps(config))
    return tensors


def test_a_new_head_on_a_model_of_timm_changes_its_number_of_classes(
    workspace, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "timm", None)  # as where it is not installed
    tensors = timm(tmp_path / "base")
    rng = np.random.default_rng(1)
    A, B = rng.standard_normal((2, 8), np.float32), rng.standard_normal((24, 2), np.float32)
    head, bias = rng.standard_normal((5, 8), np.float32), rng.standard_normal(5, np.float32)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    start = "base_model.model"
    parts = {f"{start}.head.weight": head, f"{start}.head.bias": bias}
    parts[f"{start}.blocks.0.attn.qkv.lora_A.weight"] = A
    parts[f"{start}.blocks.0.attn.qkv.lora_B.weight"] = B
    save_file(parts, adapter / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["qkv"]}
    settings |= {"modules_to_save": ["head"], "task_type": None}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    found = workspace.check_base(tmp_path / "base")
    assert found.model_class == "vit_tiny_patch16_224"
    assert found.unknown == (
        "it is timm's 'vit_tiny_patch16_224', and timm is not installed: pip install timm"
    )
    added = workspace.add(adapter, "ships", base=str(tmp_path / "base"))
    assert added.version.base.status == "measured"
    assert "checked against the base's own names only" in " ".join(workspace.noticed)
    workspace.bake("ships", tmp_path / "base", tmp_path / "out")
    baked = load_file(tmp_path / "out" / "model.safetensors")
    name = "blocks.0.attn.qkv.weight"
    assert np.allclose(baked[name], tensors[name] + B @ A, atol=1e-6)
    assert np.array_equal(baked["head.weight"], head)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["num_classes"], config["pretrained_cfg"]["num_classes"]) == (5, 5)
    assert "vocab_size" not in config


def sentence_transformer(folder, part=""):
    """A transformer, a pooling and a dense layer, as sentence-transformers saves them."""
    architectures.make("bert", folder / part)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "2_Dense").mkdir()
    save_file(
        {"linear.weight": np.ones((4, 32), np.float32)}, folder / "2_Dense" / "model.safetensors"
    )
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": "sentence_transformers.models.X"}
        for n, path in enumerate((part, "1_Pooling", "2_Dense"))
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def test_pooling_and_dense_layers_go_along_when_a_sentence_transformer_is_baked(
    workspace, tmp_path
):
    base = sentence_transformer(tmp_path / "base")
    import transformers

    model = transformers.BertForMaskedLM.from_pretrained(base)
    folder = tiny.make_adapter(model, tmp_path / "ad", 1, target_modules=["query"])
    assert workspace.check_base(base).model_class == "BertForMaskedLM"
    workspace.bake(str(folder), base, tmp_path / "out", force=True)
    for name in ("modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()


def test_a_sentence_transformer_whose_weights_are_in_a_module_says_which(workspace, tmp_path):
    base = sentence_transformer(tmp_path / "base", "0_Transformer")
    with pytest.raises(BadBase, match="its weights are in 0_Transformer") as caught:
        workspace.check_base(base)
    assert f"give {base / '0_Transformer'}" in caught.value.fix
    (base / "modules.json").write_text('[{"path": "../elsewhere"}]')
    with pytest.raises(BadBase, match=r"cannot read .*modules.json"):
        workspace.check_base(base)
