"""What `extract` saves whole or beside updates, so that PEFT opens it and the model runs: heads, biases, odd layers."""

from __future__ import annotations

import json

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
    with_adapter,
)
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from adaptkit.errors import BadBase, BakeError, MergeError

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
TEXT = SIZES | {"vocab_size": 64, "num_attention_heads": 4, "max_position_embeddings": 64}
IDS = {"input_ids": torch.tensor([[3, 5, 7, 9, 60]])}


def roberta():
    config = transformers.RobertaConfig(**TEXT, pad_token_id=1, num_labels=3)
    return transformers.RobertaForSequenceClassification(config), IDS


def token_classifier():
    config = transformers.BertConfig(**TEXT, num_labels=3)
    return transformers.BertForTokenClassification(config), IDS


def distilbert():
    sizes = {"vocab_size": 64, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}
    config = transformers.DistilBertConfig(**sizes, max_position_embeddings=64, num_labels=3)
    return transformers.DistilBertForSequenceClassification(config), IDS


def answers():
    return transformers.BertForQuestionAnswering(transformers.BertConfig(**TEXT)), IDS


def whisper():
    config = transformers.WhisperConfig(
        vocab_size=64,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_source_positions=16,
        max_target_positions=32,
        num_mel_bins=8,
        decoder_start_token_id=1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    sound = torch.linspace(-1, 1, 8 * 32).reshape(1, 8, 32)
    asked = {"input_features": sound, "decoder_input_ids": torch.tensor([[1, 4, 8]])}
    return transformers.WhisperForConditionalGeneration(config), asked


def wav2vec2():
    config = transformers.Wav2Vec2Config(**SIZES, **CONVOLUTIONS)
    return transformers.Wav2Vec2ForCTC(config), SPEECH


def xlnet():
    config = transformers.XLNetConfig(vocab_size=64, d_model=32, n_layer=1, n_head=4, d_inner=48)
    return transformers.XLNetLMHeadModel(config), IDS


def funnel():
    sizes = {"vocab_size": 64, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48}
    config = transformers.FunnelConfig(**sizes, block_sizes=[1, 1], tie_word_embeddings=False)
    return transformers.FunnelForMaskedLM(config), IDS


def bert():
    return transformers.BertForMaskedLM(transformers.BertConfig(**TEXT)), IDS


def tuned(cls, folder, only=lambda name: True):
    model = moved(cls.from_pretrained(folder / "base"), only)
    model.save_pretrained(folder / "tuned")
    return model


@pytest.mark.parametrize(
    ("build", "task", "heads"),
    [
        (roberta, "SEQ_CLS", ["classifier"]),
        (token_classifier, "TOKEN_CLS", ["classifier"]),
        (distilbert, "SEQ_CLS", ["classifier", "pre_classifier"]),
        (answers, "QUESTION_ANS", ["qa_outputs"]),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_the_head_of_a_task_is_saved_whole_as_peft_wants_it(
    workspace, tmp_path, build, task, heads, frozen
):
    cls, asked = saved(build, tmp_path / "base")
    model = tuned(
        cls,
        tmp_path,
        lambda name: name.endswith("weight") and not (frozen and name.startswith(tuple(heads))),
    )
    workspace.extract(
        tmp_path / "tuned", tmp_path / "base", rank=64, keep_full=True, out=tmp_path / "a"
    )
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["task_type"] == task
    assert set(heads) <= set(config["modules_to_save"])
    live = with_adapter(cls.from_pretrained(tmp_path / "base"), tmp_path / "a")
    assert torch.allclose(output(live, asked), output(model, asked), atol=1e-5)


@pytest.mark.parametrize("build", [bert, wav2vec2, xlnet, whisper, funnel])
def test_with_everything_moved_all_but_what_is_named_comes_back(workspace, tmp_path, build):
    cls, asked = saved(build, tmp_path / "base")
    model = tuned(cls, tmp_path)
    report = workspace.extract(
        tmp_path / "tuned", tmp_path / "base", rank=64, keep_full=True, out=tmp_path / "a"
    ).report
    assert report.left_out == ()
    live = with_adapter(cls.from_pretrained(tmp_path / "base"), tmp_path / "a")
    assert torch.allclose(output(live, asked), output(model, asked), atol=1e-4)
    workspace.bake(str(tmp_path / "a"), tmp_path / "base", tmp_path / "baked", force=True)
    baked = cls.from_pretrained(tmp_path / "baked")
    assert torch.allclose(output(baked, asked), output(model, asked), atol=1e-4)


def dinov2():
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, image_size=16, patch_size=8
    )
    return transformers.Dinov2Model(config), {
        "pixel_values": torch.linspace(-1, 1, 768).reshape(1, 3, 16, 16)
    }


def headless():
    config = transformers.LlamaConfig(**TEXT, num_key_value_heads=2)
    return transformers.LlamaModel(config), IDS


@pytest.mark.parametrize(
    ("build", "name", "longer"),
    [
        (dinov2, "embeddings", "embeddings.patch_embeddings"),
        (headless, "norm", "layers.0.input_layernorm"),
    ],
)
def test_a_module_whose_name_ends_others_is_saved_alone(workspace, tmp_path, build, name, longer):
    cls, asked = saved(build, tmp_path / "base")
    parts = ("embeddings.mask_token", "embeddings.cls_token", "norm.weight", "proj")
    model = tuned(cls, tmp_path, lambda one: one.startswith(parts) or "q_proj" in one)
    report = workspace.extract(
        tmp_path / "tuned", tmp_path / "base", rank=64, keep_full=True, out=tmp_path / "a"
    ).report
    assert name in report.saved
    assert longer not in report.saved
    live = with_adapter(cls.from_pretrained(tmp_path / "base"), tmp_path / "a")
    assert torch.allclose(output(live, asked), output(model, asked), atol=1e-5)
    config = tmp_path / "a" / "adapter_config.json"
    config.write_text(config.read_text().replace(f'"base_model.model.{name}"', f'"{name}"'))
    with pytest.raises(MergeError) as caught:  # PEFT fails with a KeyError
        workspace.merge({tmp_path / "a": 1.0}, out=tmp_path / "m", base=tmp_path / "base")
    assert f"PEFT takes '{name}' of modules_to_save for '{longer}' too" in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_biases_go_along_with_updates_and_no_layer_is_saved_whole_for_one(workspace, tmp_path):
    cls, asked = saved(bert, tmp_path / "base")
    model = tuned(cls, tmp_path, lambda name: ".layer." in name and "LayerNorm" not in name)
    report = workspace.extract(
        tmp_path / "tuned", tmp_path / "base", rank=64, keep_full=True, out=tmp_path / "a"
    ).report
    assert (report.saved, report.left_out) == ((), ())
    keys = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert "base_model.model.bert.encoder.layer.0.output.dense.base_layer.bias" in keys
    live = with_adapter(cls.from_pretrained(tmp_path / "base"), tmp_path / "a")
    assert torch.allclose(output(live, asked), output(model, asked), atol=1e-5)
    less = workspace.extract(tmp_path / "tuned", tmp_path / "base", out=tmp_path / "b").report
    assert len(less.left_out) == 12, "six layers with a bias in each of two blocks"


def test_a_model_of_which_only_unsaved_parts_moved_is_refused_as_before(workspace, tmp_path):
    cls, _ = saved(token_classifier, tmp_path / "base")
    tuned(cls, tmp_path, lambda name: name.endswith("query.bias"))
    with pytest.raises(BadBase, match="changes no matrix of its base"):
        workspace.extract(tmp_path / "tuned", tmp_path / "base", out=tmp_path / "a")


def test_layers_that_the_model_looks_into_get_no_update_that_peft_could_not_run(
    workspace, tmp_path
):
    cls, asked = saved(whisper, tmp_path / "base")
    live = get_peft_model(
        cls.from_pretrained(tmp_path / "base"), LoraConfig(r=4, target_modules=["conv1"])
    )
    with pytest.raises(AttributeError, match="stride"):
        output(live, asked)
    tuned(cls, tmp_path, lambda name: "conv1.weight" in name or "q_proj.weight" in name)
    report = workspace.extract(tmp_path / "tuned", tmp_path / "base", out=tmp_path / "a").report
    assert report.left_out == ("model.encoder.conv1.weight",)


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups")
def test_a_weight_that_is_computed_from_others_is_kept_and_not_baked(workspace, tmp_path):
    cls, asked = saved(wav2vec2, tmp_path / "base")
    live = adapter(cls, tmp_path / "base", tmp_path / "a", "pos_conv_embed.conv", "q_proj")
    want = output(live, asked)
    workspace.add(tmp_path / "a", "odd", base=str(tmp_path / "base"))
    loaded = workspace.load("odd", cls.from_pretrained(tmp_path / "base"))
    assert torch.allclose(output(loaded, asked), want, atol=1e-6)
    workspace.merge(["odd"], out=tmp_path / "merged", base=tmp_path / "base")
    merged = with_adapter(cls.from_pretrained(tmp_path / "base"), tmp_path / "merged")
    assert torch.allclose(output(merged, asked), want, atol=1e-5)
    with pytest.raises(BakeError) as caught:
        workspace.bake("odd", tmp_path / "base", tmp_path / "baked")
    name = "wav2vec2.encoder.pos_conv_embed.conv"
    assert f"the weight of '{name}' is computed from others" in caught.value.why
    assert f"'{name}.parametrizations.weight.original0'" in caught.value.why
    assert not (tmp_path / "baked").exists()
