"""The base belongs to the version: contradicting claims are refused, with both named."""

from __future__ import annotations

import shutil

import pytest
import tiny

from adaptkit.errors import BadReference, BaseMismatch


@pytest.fixture
def other(tmp_path):
    return tiny.save_llama(tmp_path / "other", seed=9)


def test_the_same_bytes_are_not_for_two_bases(lora_pair, tiny_llama, other, workspace, tmp_path):
    shutil.copytree(lora_pair[0], tmp_path / "ad")
    folder = tiny.edit_config(tmp_path / "ad", base_model_name_or_path="fleet/base")
    workspace.add(folder, "naval", base=str(tiny_llama))
    with pytest.raises(BaseMismatch, match="these bytes are registered as naval@1"):
        workspace.add(folder, "naval", base=str(other))
    workspace.add(folder, "naval", base=str(other), force=True)
    assert workspace.show("naval").version.base.level("tm1") == workspace.base(
        str(other)
    ).identity.level("tm1")


def test_a_base_that_the_adapters_own_config_contradicts_is_refused(
    tiny_llama, other, workspace, tmp_path
):
    folder = tiny.save_adapter(tiny_llama, tmp_path / "ad", 0, target_modules=["q_proj"])
    with pytest.raises(BaseMismatch, match="its configuration names") as caught:
        workspace.add(folder, "naval", base=str(other))
    assert "--force" in caught.value.fix


def test_a_live_model_of_another_base_is_refused_and_a_wrapped_one_not_wrapped_twice(
    tiny_llama, other, workspace, tmp_path
):
    from transformers import LlamaForCausalLM

    for name, seed in (("one", 0), ("two", 1)):
        folder = tiny.save_adapter(tiny_llama, tmp_path / name, seed, target_modules=["q_proj"])
        workspace.add(folder, name)
    with pytest.raises(BaseMismatch, match="one@1 is not for the model from"):
        workspace.load("one", LlamaForCausalLM.from_pretrained(other))
    with pytest.raises(BaseMismatch, match="does not fit this GPT2LMHeadModel"):
        workspace.load("one", tiny.gpt2())
    with pytest.raises(BadReference, match="it is no model, but a str"):
        workspace.load("one", str(other))
    model = workspace.load("one", LlamaForCausalLM.from_pretrained(tiny_llama))
    again = workspace.load("two", model)
    assert again is model
    assert set(model.peft_config) == {"default", "two-1"}


def test_a_live_model_with_other_values_is_refused_whatever_its_configuration_names(
    tiny_llama, workspace, lora_pair
):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    workspace.add(lora_pair[0], "naval")
    torch.manual_seed(5)
    fresh = LlamaForCausalLM(LlamaConfig.from_pretrained(tiny_llama))
    with pytest.raises(BaseMismatch, match="naval@1 is not for this LlamaForCausalLM") as caught:
        workspace.load("naval", fresh)
    assert "holds other values than in" in caught.value.why
    assert workspace.load("naval", fresh, force=True).active_adapter == "default"
    half = LlamaForCausalLM.from_pretrained(tiny_llama, dtype=torch.bfloat16)
    assert workspace.load("naval", half).active_adapter == "default"
