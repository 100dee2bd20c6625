"""Biases and layers that one adapter brings whole and another updates: PEFT finds what is kept, or the merge is refused."""

from __future__ import annotations

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel

from adaptkit.errors import ExtrasConflict


@pytest.fixture
def base(tmp_path):
    tiny.gpt2().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trained(base, folder, seed, **options):
    live = get_peft_model(
        GPT2LMHeadModel.from_pretrained(base), LoraConfig(fan_in_fan_out=True, **options)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in live.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    live.save_pretrained(folder)
    return str(folder)


def merged(base, folder):
    """The weights of the base with an adapter in it, as PEFT makes them."""
    live = PeftModel.from_pretrained(GPT2LMHeadModel.from_pretrained(base), folder)
    return live.merge_and_unload().state_dict()


def test_the_bias_of_a_layer_that_only_another_adapter_updates_is_found_again(
    base, workspace, tmp_path
):
    one = trained(base, tmp_path / "one", 1, target_modules=["c_attn"], bias="all")
    two = trained(base, tmp_path / "two", 2, target_modules=["c_attn", "mlp.c_fc"])
    workspace.merge([one, two], out=tmp_path / "out", force=True)
    found, wanted, plain = (merged(base, folder) for folder in (tmp_path / "out", one, two))
    for name in found:
        if name.endswith(".bias"):
            assert torch.equal(found[name], wanted[name]), name
    before = GPT2LMHeadModel.from_pretrained(base).state_dict()
    assert not torch.equal(
        found["transformer.h.0.mlp.c_fc.bias"], before["transformer.h.0.mlp.c_fc.bias"]
    )
    name = "transformer.h.0.mlp.c_fc.weight"
    assert torch.allclose(found[name], plain[name], atol=1e-6)


def test_two_biases_of_one_layer_are_in_conflict_whatever_peft_called_them(
    base, workspace, tmp_path
):
    one = trained(base, tmp_path / "one", 1, target_modules=["c_attn"], bias="all")
    two = trained(
        base, tmp_path / "two", 2, target_modules=["c_attn", "mlp.c_fc"], bias="lora_only"
    )
    for run in (
        lambda extras: workspace.merge([one, two], out=tmp_path / "out", force=True, extras=extras),
        lambda extras: workspace.merge_into_model(
            [one, two], base, tmp_path / "full", force=True, extras=extras
        ),
    ):
        with pytest.raises(ExtrasConflict, match="h.0.mlp.c_fc.bias'"):
            run(None)
    workspace.merge([one, two], out=tmp_path / "out", force=True, extras="average")
    found, a, b = (merged(base, folder) for folder in (tmp_path / "out", one, two))
    name = "transformer.h.0.mlp.c_fc.bias"
    assert torch.allclose(found[name], (a[name] + b[name]) / 2, atol=1e-6)
    keys = [
        key for key in load_file(tmp_path / "out" / "adapter_model.safetensors") if name[:-5] in key
    ]
    assert [key for key in keys if key.endswith(".bias")] == [
        "base_model.model.transformer.h.0.mlp.c_fc.base_layer.bias"
    ]


def test_a_layer_that_one_adapter_saves_whole_and_another_updates_is_refused(
    base, workspace, tmp_path
):
    one = trained(
        base, tmp_path / "one", 1, target_modules=["c_attn"], modules_to_save=["mlp.c_fc"]
    )
    two = trained(base, tmp_path / "two", 2, target_modules=["c_attn", "mlp.c_fc"])
    with pytest.raises(ExtrasConflict, match="cannot stand together in one adapter") as caught:
        workspace.merge([one, two], out=tmp_path / "out", force=True)
    assert "is brought whole, or in rows, by" in caught.value.why
    assert caught.value.fix.startswith("write full weights: --into bake DIR")
    assert not (tmp_path / "out").exists()


def test_rows_of_an_embedding_that_another_adapter_updates_are_for_full_weights_only(
    base, workspace, tmp_path
):
    rows = trained(
        base, tmp_path / "rows", 1, target_modules=["c_attn"], trainable_token_indices={"wte": [3]}
    )
    whole = trained(base, tmp_path / "whole", 2, target_modules=["c_attn", "wte"])
    with pytest.raises(ExtrasConflict, match="cannot stand together in one adapter"):
        workspace.merge([rows, whole], out=tmp_path / "out", force=True)
    table = load_file(f"{whole}/adapter_model.safetensors")
    if any(
        "wte.base_layer" in key for key in table
    ):  # as PEFT saves where the embedding is resized
        pytest.skip("this version of PEFT saves the embedding beside its update")
    workspace.merge_into_model([rows, (whole, 0.5)], base, tmp_path / "full", force=True)
    name = "transformer.wte.weight"
    found = load_file(tmp_path / "full" / "model.safetensors")[name]
    before = GPT2LMHeadModel.from_pretrained(base).state_dict()[name]
    A, B = (table[f"base_model.model.transformer.wte.lora_embedding_{side}"] for side in "AB")
    wanted = before + 0.5 * (B @ A).T
    delta = load_file(f"{rows}/adapter_model.safetensors")
    key = next(key for key in delta if key.endswith("wte.token_adapter.trainable_tokens_delta"))
    wanted[3] = delta[key][0]
    assert torch.allclose(found, wanted, atol=1e-6)


def test_rows_of_an_embedding_that_another_adapter_brings_whole_are_in_conflict(
    base, workspace, tmp_path
):
    rows = trained(
        base, tmp_path / "rows", 1, target_modules=["c_attn"], trainable_token_indices={"wte": [3]}
    )
    whole = trained(base, tmp_path / "whole", 2, target_modules=["c_attn"], modules_to_save=["wte"])
    with pytest.raises(ExtrasConflict, match="whole in one and rows of it in another"):
        workspace.merge([rows, whole], out=tmp_path / "out", force=True)
    with pytest.raises(ExtrasConflict, match="whole in one and rows of it in another"):
        workspace.merge_into_model([rows, whole], base, tmp_path / "full", force=True)
    workspace.merge([rows, whole], out=tmp_path / "out", force=True, extras="drop")
    keys = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert not [key for key in keys if "wte" in key]
    PeftModel.from_pretrained(GPT2LMHeadModel.from_pretrained(base), tmp_path / "out")


def test_biases_of_adalora_go_along(base, workspace, tmp_path):
    from peft import AdaLoraConfig

    settings = AdaLoraConfig(
        init_r=4,
        target_r=2,
        total_step=10,
        target_modules=["c_fc"],
        bias="all",
        fan_in_fan_out=True,
    )
    live = get_peft_model(GPT2LMHeadModel.from_pretrained(base), settings)
    with torch.no_grad():
        for name, parameter in live.named_parameters():
            if name.endswith(".bias") or "lora_E" in name:
                parameter.add_(0.1)
    live.save_pretrained(tmp_path / "ad")
    workspace.bake(str(tmp_path / "ad"), base, tmp_path / "full", force=True)
    found, wanted = (
        load_file(tmp_path / "full" / "model.safetensors"),
        merged(base, tmp_path / "ad"),
    )
    for name in ("transformer.h.0.mlp.c_fc.bias", "transformer.h.0.attn.c_attn.bias"):
        assert torch.equal(found[name], wanted[name]), name
    name = "transformer.h.0.mlp.c_fc.weight"
    assert torch.allclose(found[name], wanted[name], atol=1e-6)
