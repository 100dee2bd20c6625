"""Layers that PEFT's update does not act on as a sum into the weight: refused by bake, left alone by extract."""

from __future__ import annotations

import pytest
import torch
import transformers
from live_models import (
    CONVOLUTIONS,
    SPEECH,
    adapter,
    moved,
    output,
    saved,
    saved_adapter,
    with_adapter,
)
from peft import HRAConfig, LoraConfig, get_peft_model

from adaptkit import Workspace
from adaptkit.errors import BakeError, Unmergeable

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
IMAGE = {"pixel_values": torch.ones(1, 3, 32, 32).cumsum(-1) / 32}
IDS = {"input_ids": torch.tensor([[3, 5, 7, 9, 60]])}


def siglip():
    config = transformers.SiglipVisionConfig(
        **SIZES, num_attention_heads=4, image_size=32, patch_size=8
    )
    return transformers.SiglipVisionModel(config), IMAGE


def wavlm():
    config = transformers.WavLMConfig(**SIZES, **CONVOLUTIONS)
    return transformers.WavLMModel(config), SPEECH


def deberta():
    config = transformers.DebertaV2Config(
        **SIZES,
        vocab_size=64,
        num_attention_heads=4,
        max_position_embeddings=64,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        type_vocab_size=0,
        legacy=False,
    )
    return transformers.DebertaV2ForMaskedLM(config), IDS


def mamba():
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "state_size": 4}
    return transformers.MambaForCausalLM(transformers.MambaConfig(**sizes)), IDS


def phimoe():
    config = transformers.PhimoeConfig(
        **SIZES,
        vocab_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        max_position_embeddings=64,
    )
    return transformers.PhimoeForCausalLM(config), IDS


def vit():
    config = transformers.ViTConfig(
        **SIZES, num_attention_heads=4, image_size=32, patch_size=8, num_labels=3
    )
    return transformers.ViTForImageClassification(config), IMAGE


def deepseek():
    config = transformers.DeepseekV3Config(
        **SIZES,
        vocab_size=64,
        num_attention_heads=4,
        num_key_value_heads=4,
        moe_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        q_lora_rank=8,
        kv_lora_rank=8,
        qk_rope_head_dim=4,
        qk_nope_head_dim=4,
        v_head_dim=8,
        first_k_dense_replace=0,
        max_position_embeddings=64,
    )
    return transformers.DeepseekV3ForCausalLM(config), IDS


def mamba2():
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "state_size": 8}
    heads = {"num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}
    return transformers.Mamba2ForCausalLM(transformers.Mamba2Config(**sizes, **heads)), IDS


def sam():
    config = transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(
            **SIZES,
            output_channels=16,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
            mlp_dim=48,
            window_size=2,
            global_attn_indexes=[0],
            num_pos_feats=8,
        ),
        prompt_encoder_config=transformers.SamPromptEncoderConfig(
            hidden_size=16,
            image_size=32,
            patch_size=8,
            image_embedding_size=4,
            mask_input_channels=4,
        ),
        mask_decoder_config=transformers.SamMaskDecoderConfig(
            hidden_size=16, mlp_dim=24, num_attention_heads=2, iou_head_hidden_dim=16
        ),
    )
    points = {"input_points": torch.tensor([[[[4.0, 5.0]]]])}
    return transformers.SamModel(config), IMAGE | points


@pytest.mark.parametrize(
    ("build", "target", "module"),
    [
        (sam, "point_embed.1", "prompt_encoder.point_embed.1"),  # by its number in a list
        (siglip, "head.attention.out_proj", "head.attention.out_proj"),
        (wavlm, "v_proj", "encoder.layers.0.attention.v_proj"),
        (deberta, "rel_embeddings", "deberta.encoder.rel_embeddings"),
        (mamba, "dt_proj", "backbone.layers.0.mixer.dt_proj"),
    ],
)
def test_a_weight_that_the_model_reads_itself_takes_no_update(
    workspace, tmp_path, build, target, module
):
    cls, asked = saved(build, tmp_path / "base")
    live = adapter(cls, tmp_path / "base", tmp_path / "ad", target)
    before = output(cls.from_pretrained(tmp_path / "base"), asked)
    assert torch.equal(output(live, asked), before), "PEFT's update acts"
    workspace.add(tmp_path / "ad", "kept", base=str(tmp_path / "base"))
    with pytest.raises(BakeError) as caught:
        workspace.bake("kept", tmp_path / "base", tmp_path / "out")
    assert f"'{module}' is not called by its model" in caught.value.why
    assert "adaptkit strip REF --modules" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_what_was_trained_there_without_effect_does_not_stand_in_the_way(workspace, tmp_path):
    cls, asked = saved(siglip, tmp_path / "base")
    config = LoraConfig(r=4, target_modules=["q_proj", "out_proj"])
    live = get_peft_model(cls.from_pretrained(tmp_path / "base"), config)
    optimizer = torch.optim.SGD([p for p in live.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        live(**asked)[1].square().sum().backward()
        optimizer.step()
    live.save_pretrained(tmp_path / "ad")
    workspace.bake(str(tmp_path / "ad"), tmp_path / "base", tmp_path / "out")
    baked = output(cls.from_pretrained(tmp_path / "out"), asked)
    assert torch.allclose(baked, output(live, asked), atol=1e-5)
    assert not torch.allclose(
        baked, output(cls.from_pretrained(tmp_path / "base"), asked), atol=1e-3
    )


def test_lora_on_torch_s_attention_is_kept_and_not_merged(workspace, tmp_path):
    cls, _ = saved(siglip, tmp_path / "base")
    adapter(cls, tmp_path / "base", tmp_path / "ad", "head.attention")
    workspace.add(tmp_path / "ad", "kept", base=str(tmp_path / "base"))
    with pytest.raises(Unmergeable) as caught:
        workspace.bake("kept", tmp_path / "base", tmp_path / "out")
    assert "it changes 'head.attention', a MultiheadAttention of torch" in caught.value.why


def test_a_class_is_known_whose_configuration_has_numbers_that_json_has_not(workspace, tmp_path):
    saved(mamba2, tmp_path / "base")
    assert '"__float__": "Infinity"' in (tmp_path / "base" / "config.json").read_text()
    found = workspace.check_base(tmp_path / "base")
    assert (found.model_class, found.unknown) == ("Mamba2ForCausalLM", "")
    assert found.layers["read"] == 2  # conv1d and out_proj, on which PEFT refuses LoRA


def test_what_peft_would_take_for_experts_is_named_and_left_out(workspace, tmp_path):
    cls, _ = saved(deepseek, tmp_path / "base")
    tuned = moved(cls.from_pretrained(tmp_path / "base"), lambda name: "proj.weight" in name)
    tuned.save_pretrained(tmp_path / "tuned")
    report = workspace.extract(tmp_path / "tuned", tmp_path / "base", out=tmp_path / "ad").report
    inside = "model.layers.0.mlp.shared_experts"
    assert set(report.left_out) == {f"{inside}.{n}_proj.weight" for n in ("gate", "up", "down")}


def test_an_embedding_whose_weight_the_head_reads_as_well_takes_no_update(workspace, tmp_path):
    cls, _ = saved(deberta, tmp_path / "base")
    adapter(cls, tmp_path / "base", tmp_path / "ad", "word_embeddings")
    with pytest.raises(
        BakeError, match=r"word_embeddings' is not called by its model, or not only"
    ):
        workspace.bake(str(tmp_path / "ad"), tmp_path / "base", tmp_path / "out")


@pytest.mark.parametrize(
    ("build", "target"), [(siglip, "q_proj"), (mamba, "x_proj"), (phimoe, "q_proj")]
)
def test_what_the_same_models_call_is_baked(workspace, tmp_path, build, target):
    cls, asked = saved(build, tmp_path / "base")
    live = adapter(cls, tmp_path / "base", tmp_path / "ad", target)
    workspace.bake(str(tmp_path / "ad"), tmp_path / "base", tmp_path / "out")
    baked = cls.from_pretrained(tmp_path / "out")
    assert torch.allclose(output(baked, asked), output(live, asked), atol=1e-5)


@pytest.mark.parametrize("build", [siglip, wavlm, deberta, mamba, mamba2, phimoe, deepseek, vit])
def test_a_fine_tune_of_every_matrix_comes_back_but_for_what_is_named(workspace, tmp_path, build):
    cls, asked = saved(build, tmp_path / "base")
    tuned = moved(cls.from_pretrained(tmp_path / "base"), lambda name: name.endswith(".weight"))
    tuned.save_pretrained(tmp_path / "tuned")
    report = workspace.extract(
        tmp_path / "tuned", tmp_path / "base", rank=64, out=tmp_path / "ad"
    ).report
    live = with_adapter(cls.from_pretrained(tmp_path / "base"), tmp_path / "ad")
    left = dict(tuned.named_parameters())
    with torch.no_grad():
        for name, parameter in live.get_base_model().named_parameters():
            plain = name.replace(".base_layer", "").replace("original_module.", "")
            if plain in report.left_out:
                parameter.copy_(left[plain])
    assert torch.allclose(output(live, asked), output(tuned, asked), atol=1e-4)


def bart(folder):
    config = transformers.BartConfig(
        vocab_size=64,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        forced_eos_token_id=2,
    )
    torch.manual_seed(0)
    model = transformers.BartForConditionalGeneration(config)
    model.final_logits_bias += torch.arange(64) / 64
    model.save_pretrained(folder)
    return IDS | {"decoder_input_ids": torch.tensor([[2, 3, 4]])}


def resized(folder):
    model = transformers.BartForConditionalGeneration.from_pretrained(folder)
    model.resize_token_embeddings(66, mean_resizing=False)
    return model


def test_a_buffer_for_each_token_grows_with_the_vocabulary(workspace, tmp_path):
    asked = bart(tmp_path / "base")
    config = LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "shared"])
    live = saved_adapter(resized(tmp_path / "base"), config, tmp_path / "ad")
    workspace.bake(str(tmp_path / "ad"), tmp_path / "base", tmp_path / "out")
    baked = transformers.BartForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert baked.final_logits_bias.shape == (1, 66)
    assert torch.allclose(output(baked, asked), output(live, asked), atol=1e-5)


def test_a_fine_tune_with_new_tokens_and_such_a_buffer_is_extracted(workspace, tmp_path):
    asked = bart(tmp_path / "base")
    tuned = moved(
        resized(tmp_path / "base"), lambda name: "q_proj.weight" in name or "shared" in name
    )
    tuned.save_pretrained(tmp_path / "tuned")
    report = workspace.extract(
        tmp_path / "tuned", tmp_path / "base", rank=64, out=tmp_path / "ad"
    ).report
    assert report.left_out == ()
    live = with_adapter(resized(tmp_path / "base"), tmp_path / "ad")
    assert torch.allclose(output(live, asked), output(tuned, asked), atol=1e-5)


def test_a_method_that_is_read_on_linear_layers_only_is_kept_on_others(tmp_path):
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"}
    config = transformers.ResNetConfig(num_labels=3, **sizes)
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "base")
    model = transformers.ResNetForImageClassification.from_pretrained(tmp_path / "base")
    saved_adapter(model, HRAConfig(r=2, target_modules=["layer.1.convolution"]), tmp_path / "ad")
    noticed = []
    with Workspace.init(tmp_path / "home", notify=noticed.append) as workspace:
        workspace.add(tmp_path / "ad", "kept", base=str(tmp_path / "base"))
        why = "'resnet.encoder.stages.0.layers.0.layer.1.convolution', which is no linear layer"
        assert any(why in text for text in noticed), noticed
        with pytest.raises(Unmergeable, match="cannot merge") as caught:
            workspace.bake("kept", tmp_path / "base", tmp_path / "out")
    assert why in caught.value.why
    assert caught.value.fix == "keep it as an adapter"


def opt():
    config = transformers.OPTConfig(
        vocab_size=64,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
    )
    return transformers.OPTForCausalLM(config), IDS


def test_positions_that_are_no_look_up_take_no_update(workspace, tmp_path):
    cls, _ = saved(opt, tmp_path / "base")
    adapter(cls, tmp_path / "base", tmp_path / "ad", "q_proj", "embed_positions")
    workspace.add(tmp_path / "ad", "kept", base=str(tmp_path / "base"))
    with pytest.raises(BakeError) as caught:
        workspace.bake("kept", tmp_path / "base", tmp_path / "out")
    assert "embed_positions' computes with its weight in a way of its own" in caught.value.why
    assert not (tmp_path / "out").exists()
