"""Bases whose weights are codes of a quantisation: adapters are kept and merged, nothing is computed with the codes."""

from __future__ import annotations

import json
import shutil

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from adaptkit.errors import BadBase, BakeError


def fp8(tensors):
    made = {}
    for key, value in tensors.items():
        if not key.endswith("proj.weight"):
            made[key] = value
            continue
        scale = value.abs().max() / 448
        made |= {key: (value / scale).to(torch.float8_e4m3fn), f"{key}_scale_inv": scale[None]}
    return made


def int8(tensors):
    made = {}
    for key, value in tensors.items():
        if not key.endswith("proj.weight"):
            made[key] = value
            continue
        largest = value.abs().amax(1, keepdim=True)
        made[key] = (value / largest * 127).round().to(torch.int8)
        made[key.removesuffix("weight") + "SCB"] = largest[:, 0]
    return made


FORMS = {
    "fp8": (fp8, {"quant_method": "fp8", "weight_block_size": [128, 128]}),
    "fp8 untold": (fp8, None),
    "int8": (int8, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    "int8 untold": (int8, None),
}


@pytest.fixture(params=FORMS)
def quantised(request, tiny_llama, tmp_path):
    make, declared = FORMS[request.param]
    folder = shutil.copytree(tiny_llama, tmp_path / "quantised")
    file = folder / "model.safetensors"
    save_file(make(load_file(file)), file, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    if declared is not None:
        config["quantization_config"] = declared
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_nothing_is_extracted_from_codes(quantised, workspace, tiny_llama, tmp_path):
    for tuned, base in ((quantised, tiny_llama), (tiny_llama, quantised)):
        with pytest.raises(BakeError) as caught:
            workspace.extract(tuned, base, rank=4, out=tmp_path / "out")
        assert caught.value.summary.startswith(f"cannot extract an adapter with {quantised}")
        assert "its weights are quantised" in caught.value.why
        assert caught.value.fix == "give the full-precision model it was made from"
        assert not (tmp_path / "out").exists()


def test_an_update_that_needs_the_weights_is_not_computed_with_codes(
    quantised, workspace, tiny_llama, tmp_path
):
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(folders):
        options = {"use_dora": True, "target_modules": ["q_proj"]}
        tiny.make_adapter(
            tiny_model(tiny_llama),
            folder,
            seed,
            r=2,
            **options,
        )
        tiny.edit_config(folder, base_model_name_or_path=None)
        workspace.add(folder, folder.name, base=str(quantised))
    with pytest.raises(BadBase) as caught:
        workspace.merge(["a", "b"], rank=8, base=quantised, out=tmp_path / "merged", force=True)
    assert "cannot be computed with" in caught.value.summary
    assert "its weights are quantised" in caught.value.why
    assert not (tmp_path / "merged").exists()


def tiny_model(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def test_an_empty_declaration_says_nothing(workspace, tiny_llama, tmp_path):
    folder = shutil.copytree(tiny_llama, tmp_path / "plain")
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    assert workspace.check_base(folder).quantised == ""
