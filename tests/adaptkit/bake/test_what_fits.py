"""What fits a base, by its class: heads, vocabularies, scaled weights, diffusers' components."""

from __future__ import annotations

import json
import warnings

import architectures
import numpy as np
import pytest
import tiny

from adaptkit.errors import BakeError, BaseMismatch


def classifier(base, folder, task="SEQ_CLS", **options):
    """A classification adapter, trained on a base that has no such head."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
        config = LoraConfig(r=4, task_type=task, init_lora_weights=False, **options)
        live = get_peft_model(model, config)
        live.save_pretrained(folder)
    return live.eval()


def logits(model):
    import torch

    with torch.no_grad():
        return model(torch.tensor([[3, 5, 7, 9, 40]])).logits


def test_a_head_goes_onto_a_base_without_one(workspace, tmp_path):
    from transformers import AutoModelForSequenceClassification

    base = architectures.make("roberta", tmp_path / "base")
    live = classifier(base, tmp_path / "ad", target_modules=["query"])
    baked = workspace.bake(str(tmp_path / "ad"), base, tmp_path / "out").report
    assert baked.model_class == "RobertaForSequenceClassification"
    assert any("the base is a RobertaForMaskedLM" in text for text in baked.remarks)
    again, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert (logits(again.eval()) - logits(live)).abs().max() < 1e-6


def test_what_training_drew_at_random_and_did_not_save_is_named(workspace, tmp_path):
    base = architectures.make("bert", tmp_path / "base")
    classifier(base, tmp_path / "ad", target_modules=["query"])
    workspace.add(tmp_path / "ad", "topic", base=str(base))
    with pytest.raises(BakeError) as caught:
        workspace.bake("topic", base, tmp_path / "out")
    assert "BertForSequenceClassification needs 'bert.pooler.dense.weight'" in str(caught.value)
    assert "neither the base nor the adapter has" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_scales_beside_weights_are_seen_without_a_quantization_config(
    tiny_llama, lora_pair, workspace, tmp_path
):
    import shutil

    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny_llama, tmp_path / "fp8")
    tensors = load_file(tiny_llama / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[f"{name}_scale_inv"] = np.ones((1, 1), np.float32)
    save_file(tensors, tmp_path / "fp8" / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        BakeError, match="it holds 'model.layers.0.self_attn.q_proj.weight_scale_inv'"
    ):
        workspace.bake(str(lora_pair[0]), tmp_path / "fp8", tmp_path / "out", force=True)


def test_a_lora_of_a_unet_goes_into_the_unet(workspace, tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="pip install diffusers")
    import torch
    from safetensors.torch import load_file, save_file

    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=16,
        norm_num_groups=4,
    )
    unet.save_pretrained(tmp_path / "unet")
    q = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    A, B = torch.randn(4, 16), torch.randn(16, 4)
    pair = {f"unet.{q}.lora_A.weight": A, f"unet.{q}.lora_B.weight": B}
    save_file(pair, tmp_path / "lora.safetensors", {"format": "pt"})
    baked = workspace.bake(str(tmp_path / "lora.safetensors"), tmp_path / "unet", tmp_path / "out")
    assert any("names no base; allowed because" in text for text in workspace.noticed)
    assert baked.report.changed == (f"{q}.weight",)
    weights = load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors")
    wanted = unet.state_dict()[f"{q}.weight"] + B @ A
    assert torch.allclose(weights[f"{q}.weight"], wanted, atol=1e-5)
    diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "out")
    pair = {f"unet.{q}.lora_A.weight": A[:, :8].clone(), f"unet.{q}.lora_B.weight": B}
    save_file(pair, tmp_path / "narrow.safetensors", {"format": "pt"})
    with pytest.raises(BaseMismatch, match="baking changes weights for good"):
        workspace.bake(str(tmp_path / "narrow.safetensors"), tmp_path / "unet", tmp_path / "no")


def test_advice_fits_an_adapter_that_names_this_very_base(workspace, tmp_path):
    base = architectures.make("llama", tmp_path / "base")
    folder = tiny.make_adapter(
        tiny.gpt2(), tmp_path / "ad", 0, target_modules=["c_attn"], fan_in_fan_out=True
    )
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(base)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(BaseMismatch) as caught:
        workspace.add(folder, "lost")
    assert "loaded as another class or changed after loading" in str(caught.value)


def test_what_rounding_costs_is_reported(tiny_llama, lora_pair, workspace, tmp_path):
    whole = workspace.bake(str(lora_pair[0]), tiny_llama, tmp_path / "a", force=True).report
    half = workspace.bake(
        str(lora_pair[0]), tiny_llama, tmp_path / "b", force=True, dtype="bfloat16"
    ).report
    assert whole.rounding < 1e-5
    assert half.rounding > 1e-3


def test_new_tokens_of_an_encoder_leave_the_decoders_vocabulary_as_it_is(workspace, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

    part = BertConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    config = EncoderDecoderConfig.from_encoder_decoder_configs(part, part)
    model = EncoderDecoderModel(config)
    model.save_pretrained(tmp_path / "base")
    model.encoder.resize_token_embeddings(67)
    settings = LoraConfig(
        r=2,
        target_modules=["encoder.encoder.layer.0.attention.self.query"],
        modules_to_save=["encoder.embeddings.word_embeddings"],
        init_lora_weights=False,
    )
    live = get_peft_model(model, settings)
    live.save_pretrained(tmp_path / "ad")
    workspace.bake(str(tmp_path / "ad"), tmp_path / "base", tmp_path / "out", force=True)
    made = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (made["encoder"]["vocab_size"], made["decoder"]["vocab_size"]) == (67, 64)
    again = EncoderDecoderModel.from_pretrained(tmp_path / "out").eval()
    asked = {"input_ids": torch.tensor([[3, 66]]), "decoder_input_ids": torch.tensor([[5, 7]])}
    with torch.no_grad():
        assert torch.allclose(again(**asked).logits, live.eval()(**asked).logits, atol=1e-6)


def test_a_layer_that_standardises_its_weight_takes_no_update(workspace, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import BitConfig, BitForImageClassification

    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "num_groups": 4}
    model = BitForImageClassification(BitConfig(num_labels=3, **sizes))
    model.save_pretrained(tmp_path / "base")
    lora = LoraConfig(r=2, target_modules=["conv2"], init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(tmp_path / "ad")
    assert workspace.check_base(tmp_path / "base").layers["own"] == 9
    workspace.add(tmp_path / "ad", "ships", base=str(tmp_path / "base"))
    with pytest.raises(BakeError, match="computes with its weight in a way of its own") as caught:
        workspace.bake("ships", tmp_path / "base", tmp_path / "out")
    assert "'bit.encoder.stages.0.layers.0.conv2'" in caught.value.why
    assert caught.value.fix.startswith("keep it as an adapter")
    assert not (tmp_path / "out").exists()
