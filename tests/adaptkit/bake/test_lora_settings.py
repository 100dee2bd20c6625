"""Settings of LoRA that change what a file holds or what the model is: against PEFT's own forward."""

from __future__ import annotations

import json

import architectures
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from adaptkit.errors import BaseMismatch

pytestmark = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
IDS = {"input_ids": torch.tensor([[3, 5, 7, 9, 60]])}
REPEATED = {"target_modules": ["q_proj", "v_proj"], "layer_replication": [[0, 2], [1, 2]]}


def output(model):
    with torch.no_grad():
        return model.double().eval()(**IDS).logits


def adapter(name, base, folder, **options):
    """An adapter as PEFT saves it; returns what its live model makes of the input."""
    config = LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, **options)
    live = get_peft_model(architectures.load(name, base), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in live.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.1 * noise.to(parameter.dtype))
    live.float().save_pretrained(folder)
    return output(live)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("llama", {"target_modules": ["q_proj", "embed_tokens"]}),
        ("gpt2", {"target_modules": ["c_attn", "wpe"], "fan_in_fan_out": True}),
    ],
)
def test_dora_on_an_embedding_is_baked_column_by_column(workspace, tmp_path, name, options):
    architectures.make(name, tmp_path / "base", tie=False)
    want = adapter(name, tmp_path / "base", tmp_path / "a", use_dora=True, **options)
    workspace.bake(str(tmp_path / "a"), tmp_path / "base", tmp_path / "out")
    baked = output(architectures.load(name, tmp_path / "out"))
    assert torch.allclose(baked, want, atol=1e-5)
    workspace.convert(str(tmp_path / "a"), rank=32, base=tmp_path / "base", out=tmp_path / "plain")
    plain = PeftModel.from_pretrained(
        architectures.load(name, tmp_path / "base"), str(tmp_path / "plain")
    )
    assert torch.allclose(output(plain), want, atol=1e-5)


def test_biases_that_are_there_twice_are_read_once(workspace, tmp_path):
    architectures.make("bert", tmp_path / "base", tie=True)
    options = {"target_modules": ["query"], "bias": "all", "modules_to_save": ["cls"]}
    want = adapter("bert", tmp_path / "base", tmp_path / "a", **options)
    keys = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert "base_model.model.cls.modules_to_save.default.predictions.bias" in keys
    workspace.add(tmp_path / "a", "twice", base=str(tmp_path / "base"))
    live = workspace.load("twice", architectures.load("bert", tmp_path / "base"))
    assert torch.allclose(output(live), want, atol=1e-6)
    workspace.merge(["twice"], out=tmp_path / "merged", base=tmp_path / "base")
    merged = PeftModel.from_pretrained(
        architectures.load("bert", tmp_path / "base"), str(tmp_path / "merged")
    )
    assert torch.allclose(output(merged), want, atol=1e-5)
    workspace.bake("twice", tmp_path / "base", tmp_path / "out")
    assert torch.allclose(output(architectures.load("bert", tmp_path / "out")), want, atol=1e-5)


def test_an_adapter_that_repeats_layers_is_loaded_onto_the_model_as_it_is(workspace, tmp_path):
    architectures.make("llama", tmp_path / "base", tie=False)
    want = adapter("llama", tmp_path / "base", tmp_path / "a", **REPEATED)
    adapter("llama", tmp_path / "base", tmp_path / "b", target_modules=["q_proj"])
    workspace.add(tmp_path / "a", "deep", base=str(tmp_path / "base"))
    workspace.add(tmp_path / "b", "plain", base=str(tmp_path / "base"))
    live = workspace.load("deep", architectures.load("llama", tmp_path / "base"))
    assert torch.allclose(output(live), want, atol=1e-6)
    with pytest.raises(BaseMismatch, match="beside another adapter"):
        workspace.load("plain", live)
    shallow = workspace.load("plain", architectures.load("llama", tmp_path / "base"))
    with pytest.raises(BaseMismatch) as caught:
        workspace.load("deep", shallow)
    assert "PEFT repeats layers once more" in caught.value.why
    assert caught.value.fix == "load it onto a model of its own"


def test_adapters_that_repeat_the_same_layers_are_summed(workspace, tmp_path):
    architectures.make("llama", tmp_path / "base", tie=False)
    adapter("llama", tmp_path / "base", tmp_path / "a", **REPEATED)
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    (tmp_path / "b").mkdir()
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    (tmp_path / "b" / "adapter_config.json").write_text(json.dumps(config))
    tripled = {key: 3 * value if "lora_B" in key else value for key, value in tensors.items()}
    save_file(tripled, tmp_path / "b" / "adapter_model.safetensors")
    workspace.merge([str(tmp_path / "a"), str(tmp_path / "b")], out=tmp_path / "merged")
    file = tmp_path / "a" / "adapter_config.json"
    file.write_text(json.dumps(config | {"lora_alpha": 24}))  # four times
    merged, want = (
        PeftModel.from_pretrained(architectures.load("llama", tmp_path / "base"), str(folder))
        for folder in (tmp_path / "merged", tmp_path / "a")
    )
    assert torch.allclose(output(merged), output(want), atol=1e-5)
