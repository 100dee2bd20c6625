"""The one authority on a base: its class."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import architectures
import pytest

from adaptkit.bases import describe
from adaptkit.bases.architecture import Architecture
from adaptkit.bases.describe import architecture_of
from adaptkit.bases.identity import base_shapes


def look(folder, **how):
    config = json.loads((folder / "config.json").read_text())
    return architecture_of(config, base_shapes(folder), **how)


def test_what_a_class_ties_by_default_is_tied_without_a_key_in_the_config(tmp_path):
    found = look(architectures.make("gpt2", tmp_path / "gpt2", publish=True))
    assert found.tied_with("lm_head.weight") == ("transformer.wte.weight", "lm_head.weight")
    assert (found.embedding, found.head, found.task) == ("transformer.wte", "lm_head", "CAUSAL_LM")
    assert found.missing() == ()


def test_a_key_of_the_config_unties_what_the_class_can_untie(tmp_path):
    assert look(architectures.make("gpt2", tmp_path / "gpt2", tie=False)).ties == {}


def test_each_module_has_its_own_kind_of_layer(tmp_path):
    found = look(architectures.make("gpt2", tmp_path / "gpt2"))
    kinds = {
        n: found.layers[n] for n in ("transformer.wte", "transformer.h.0.attn.c_proj", "lm_head")
    }
    assert list(kinds.values()) == ["embedding", "conv1d", "linear"]


def test_biases_and_shared_embeddings_are_tied_too(tmp_path):
    bert = look(architectures.make("bert", tmp_path / "bert"))
    assert bert.ties["cls.predictions.decoder.bias"] == "cls.predictions.bias"
    t5 = look(architectures.make("t5", tmp_path / "t5"))
    assert set(t5.tied_with("shared.weight")) == {
        "shared.weight",
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "lm_head.weight",
    }


def test_what_was_found_is_remembered_by_content(tmp_path, monkeypatch):
    monkeypatch.setattr(describe, "_REMEMBERED", {})  # as in a new process
    base = architectures.make("llama", tmp_path / "llama")
    found = look(base, cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    kept = json.loads(file.read_text())["architecture"]
    assert Architecture.from_json(kept) == found


def test_a_class_that_is_not_known_says_why_and_keeps_the_checkpoints_names(tmp_path):
    base = architectures.make("llama", tmp_path / "llama")
    config = json.loads((base / "config.json").read_text()) | {"model_type": "llama9"}
    found = architecture_of(config, base_shapes(base))
    assert "has no model_type 'llama9'" in found.unknown
    assert found.parameters == base_shapes(base)
    assert "no model_type, _class_name or" in architecture_of({}, base_shapes(base)).unknown


def test_a_component_of_a_pipeline_is_known_through_diffusers(unet):
    found = look(unet)
    assert (found.name, found.unused, found.missing()) == ("UNet2DConditionModel", (), ())
    assert found.layers["mid_block.attentions.0.transformer_blocks.0.attn1.to_q"] == "linear"
    assert found.layers["conv_in"] == "convolution"


@pytest.fixture
def unet(tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="pip install diffusers")
    diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=16,
        norm_num_groups=4,
    ).save_pretrained(tmp_path / "unet")
    return tmp_path / "unet"


def test_threads_that_ask_for_one_class_at_once_have_it_described_once(tiny_llama, monkeypatch):
    config = json.loads((tiny_llama / "config.json").read_text()) | {"eos_token_id": 4711}
    made, build = [], describe._build
    monkeypatch.setattr(describe, "_build", lambda *of: made.append(of) or build(*of))
    with ThreadPoolExecutor(8) as pool:
        shapes = base_shapes(tiny_llama)
        found = list(pool.map(lambda _: architecture_of(config, shapes), range(8)))
    assert len(made) == 1
    assert all(one is found[0] for one in found)
