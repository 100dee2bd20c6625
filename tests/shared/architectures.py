"""One tiny model of each of many architectures, for the tests that go through all of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_GROUPED = _SMALL | {"num_key_value_heads": 2, "max_position_embeddings": 64}
_ENCODER = _SMALL | {"max_position_embeddings": 64}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}


@dataclass(frozen=True)
class Tiny:
    """How a model is made, and the names of what adapters go on; `ids` says that it takes token numbers."""

    model: str
    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    attention: str = "q_proj"
    embedding: str = "embed_tokens"
    head: str = "lm_head"
    task: str | None = "CAUSAL_LM"
    inputs: str = "ids"


_LLAMA = {"model": "LlamaForCausalLM", "config": "LlamaConfig", "settings": _GROUPED | _SPECIAL}
TINY: dict[str, Tiny] = {
    "gpt2": Tiny(
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
        | {"bos_token_id": 1, "eos_token_id": 2},
        "c_proj",
        "wte",
    ),
    "gpt_neox": Tiny(
        "GPTNeoXForCausalLM",
        "GPTNeoXConfig",
        _ENCODER | {"bos_token_id": 1, "eos_token_id": 2},
        "query_key_value",
        "embed_in",
        "embed_out",
    ),
    "bloom": Tiny(
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 4} | _SPECIAL,
        "query_key_value",
        "word_embeddings",
    ),
    "opt": Tiny(
        "OPTForCausalLM",
        "OPTConfig",
        {"vocab_size": 64, "hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2}
        | {"num_attention_heads": 4, "max_position_embeddings": 64, "word_embed_proj_dim": 32}
        | _SPECIAL,
    ),
    "llama": Tiny(**_LLAMA),
    "mistral": Tiny("MistralForCausalLM", "MistralConfig", _GROUPED | _SPECIAL),
    "gemma": Tiny("GemmaForCausalLM", "GemmaConfig", _GROUPED | _SPECIAL | {"head_dim": 8}),
    "gemma2": Tiny("Gemma2ForCausalLM", "Gemma2Config", _GROUPED | _SPECIAL | {"head_dim": 8}),
    "gemma3": Tiny("Gemma3ForCausalLM", "Gemma3TextConfig", _GROUPED | _SPECIAL | {"head_dim": 8}),
    "qwen2": Tiny("Qwen2ForCausalLM", "Qwen2Config", _GROUPED | _SPECIAL),
    "qwen3": Tiny("Qwen3ForCausalLM", "Qwen3Config", _GROUPED | _SPECIAL | {"head_dim": 8}),
    "qwen3_moe": Tiny(
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        _GROUPED
        | _SPECIAL
        | {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    ),
    "mixtral": Tiny(
        "MixtralForCausalLM", "MixtralConfig", _GROUPED | _SPECIAL | {"num_local_experts": 4}
    ),
    "gpt_oss": Tiny(
        "GptOssForCausalLM",
        "GptOssConfig",
        _GROUPED
        | _SPECIAL
        | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}
        | {"layer_types": ["full_attention", "full_attention"]},
    ),
    "phi": Tiny("PhiForCausalLM", "PhiConfig", _GROUPED | _SPECIAL),
    "t5": Tiny(
        "T5ForConditionalGeneration",
        "T5Config",
        {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
        | {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1},
        "q",
        "shared",
        task="SEQ_2_SEQ_LM",
        inputs="seq2seq",
    ),
    "bert": Tiny(
        "BertForMaskedLM",
        "BertConfig",
        _ENCODER | {"pad_token_id": 0},
        "query",
        "word_embeddings",
        "cls.predictions.decoder",
        task=None,
    ),
    "roberta": Tiny(
        "RobertaForMaskedLM",
        "RobertaConfig",
        _ENCODER | _SPECIAL,
        "query",
        "word_embeddings",
        "lm_head.decoder",
        task=None,
    ),
    "distilbert": Tiny(
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        {"vocab_size": 64, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4}
        | {"max_position_embeddings": 64, "pad_token_id": 0},
        "q_lin",
        "word_embeddings",
        "vocab_projector",
        task=None,
    ),
    "vit": Tiny(
        "ViTForImageClassification",
        "ViTConfig",
        _VISION | {"num_labels": 5},
        "q_proj",
        "",
        "classifier",
        task=None,
        inputs="image",
    ),
    "clip": Tiny(
        "CLIPModel",
        "CLIPConfig",
        {"text_config": _ENCODER | _SPECIAL, "vision_config": _VISION, "projection_dim": 16},
        "q_proj",
        "token_embedding",
        "text_projection",
        task=None,
        inputs="clip",
    ),
    "whisper": Tiny(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        {"vocab_size": 64, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2}
        | {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
        | {"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_source_positions": 16}
        | {"max_target_positions": 32, "num_mel_bins": 8, "decoder_start_token_id": 1}
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        | {"suppress_tokens": None, "begin_suppress_tokens": None},
        "q_proj",
        "embed_tokens",
        "proj_out",
        task=None,
        inputs="audio",
    ),
    "qwen2_vl": Tiny(
        "Qwen2VLForConditionalGeneration",
        "Qwen2VLConfig",
        {
            "text_config": _GROUPED
            | {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}}
            | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
            "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4}
            | {"mlp_ratio": 2, "patch_size": 8},
            "image_token_id": 60,
            "video_token_id": 61,
            "vision_start_token_id": 62,
            "vision_end_token_id": 63,
        },
    ),
    "llava": Tiny(
        "LlavaForConditionalGeneration",
        "LlavaConfig",
        {
            "text_config": _GROUPED | _SPECIAL | {"model_type": "llama"},
            "vision_config": _VISION | {"model_type": "clip_vision_model"},
            "image_token_index": 63,
        },
    ),
}


def make(name: str, folder: Path, *, tie: bool | None = None, publish: bool = False) -> Path:
    """Save the model of that name. `tie` writes the key; None leaves it to the class, as a published config does."""
    import json

    import torch
    import transformers

    tiny = TINY[name]
    torch.manual_seed(0)
    settings = dict(tiny.settings) | ({} if tie is None else {"tie_word_embeddings": tie})
    config = getattr(transformers, tiny.config)(**settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = getattr(transformers, tiny.model)(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape))
        model.save_pretrained(folder)
    if publish:
        path = folder / "config.json"
        said = json.loads(path.read_text())
        said.pop("tie_word_embeddings", None)
        path.write_text(json.dumps(said))
    return folder


def load(name: str, folder: Path) -> Any:
    """The model in a folder, in float64, as its class loads it."""
    import torch
    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = getattr(transformers, TINY[name].model).from_pretrained(folder)
        if name in {"mixtral", "qwen3_moe", "gpt_oss"}:  # the fused product takes no float64
            model.set_experts_implementation("eager")
    return model.to(torch.float64).eval()


def outputs(name: str, model: Any) -> Any:
    """What a model makes of one fixed input, as one vector."""
    import torch

    ids = torch.tensor([[3, 5, 7, 9, 40, 11]])
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        match TINY[name].inputs:
            case "seq2seq":
                found = model(input_ids=ids, decoder_input_ids=ids).logits
            case "image":
                image = torch.randn(1, 3, 16, 16, generator=generator, dtype=torch.float64)
                found = model(pixel_values=image).logits
            case "clip":
                image = torch.randn(1, 3, 16, 16, generator=generator, dtype=torch.float64)
                made = model(input_ids=ids, pixel_values=image)
                return torch.cat([made.text_embeds.flatten(), made.image_embeds.flatten()])
            case "audio":
                sound = torch.randn(1, 8, 32, generator=generator, dtype=torch.float64)
                found = model(input_features=sound, decoder_input_ids=ids).logits
            case _:
                found = model(input_ids=ids).logits
    return found.flatten()
