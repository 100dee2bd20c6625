"""Tiny diffusers pipelines with random weights: a UNet, CLIP text encoders and an autoencoder of a few thousand numbers."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_ATTENTION = "text_model.encoder.layers.0.self_attn"
QUERY = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"


def modules(*parts: str) -> dict[str, tuple[int, int]]:
    """What a LoRA changes in these components, with its shape."""
    found = {}
    for part in parts:
        names = (
            {QUERY: (16, 16)}
            if part == "unet"
            else {f"{_ATTENTION}.{name}": (8, 8) for name in ("q_proj", "out_proj")}
        )
        found |= {f"{part}.{name}": shape for name, shape in names.items()}
    return found


def make(folder: Path, *, xl: bool = False, tokenizer: Any = None) -> Path:
    """A Stable Diffusion pipeline, or one of SDXL with two text encoders; the UNet is in several files."""
    import diffusers
    import torch
    import transformers

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = {
            "unet": _unet(xl=xl),
            "vae": diffusers.AutoencoderKL(
                block_out_channels=(4,), norm_num_groups=2, sample_size=8
            ),
            "scheduler": diffusers.DDIMScheduler(),
            "text_encoder": transformers.CLIPTextModel(_text()),
            "tokenizer": tokenizer,
        }
        if xl:
            second = transformers.CLIPTextModelWithProjection(_text())
            pipe: Any = diffusers.StableDiffusionXLPipeline(
                **parts, text_encoder_2=second, tokenizer_2=tokenizer
            )
        else:
            pipe = diffusers.StableDiffusionPipeline(
                **parts,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        pipe.save_pretrained(folder, max_shard_size="60KB")
    for part in sorted(folder.glob("text_encoder*")):
        _as_published(part)
    return folder


def words(*known: str) -> Any:
    """A tokenizer of a few words, for pipelines that run."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(("<s>", "</s>", "<unk>", *known))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        model_max_length=16,
    )


def _unet(*, xl: bool) -> Any:
    import diffusers

    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=16 if xl else 8,
        norm_num_groups=4,
        **(
            {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 56,
            }
            if xl
            else {}
        ),
    )


def _text() -> Any:
    import transformers

    return transformers.CLIPTextConfig(
        vocab_size=64,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=8,
        bos_token_id=0,
        eos_token_id=1,
    )


def _as_published(folder: Path) -> None:
    """Published text encoders name their tensors `text_model.…`, whatever the class of transformers 5 does."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    renamed = {
        name
        if name.startswith(("text_model.", "text_projection"))
        else f"text_model.{name}": tensor
        for name, tensor in tensors.items()
    }
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})


def lora(path: Path, modules: dict[str, tuple[int, int]], *, rank: int = 2, seed: int = 1) -> Path:
    """A LoRA file as diffusers writes it, for modules such as `unet.….to_q` of rows × columns."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (rows, columns) in modules.items():
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, columns, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(rows, rank, generator=generator)
    save_file(tensors, path, {"format": "pt"})
    return path


def kohya(path: Path, modules: dict[str, tuple[int, int]], *, alpha: float = 1.0) -> Path:
    """The same as kohya's scripts write it: flat names and an alpha for each module."""
    import torch
    from safetensors.torch import load_file, save_file

    starts = {
        "unet": "lora_unet",
        "text_encoder": "lora_te1"
        if any(name.startswith("text_encoder_2.") for name in modules)
        else "lora_te",
        "text_encoder_2": "lora_te2",
    }
    lora(path, modules)
    tensors = {}
    for key, value in load_file(path).items():
        module, _, what = key.removesuffix(".weight").rpartition(".")
        part, _, name = module.partition(".")
        flat = f"{starts[part]}_{name.replace('.', '_')}"
        tensors[f"{flat}.{'lora_down' if what == 'lora_A' else 'lora_up'}.weight"] = value
        tensors[f"{flat}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path, {"ss_network_module": "networks.lora"})
    return path


def weights(folder: Path, lora_file: Path | None = None) -> dict[str, Any]:
    """Every parameter as the pipeline's own class loads it, with a LoRA file fused in by diffusers' own loader."""
    import diffusers

    named = json.loads((folder / "model_index.json").read_text())["_class_name"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = getattr(diffusers, named).from_pretrained(folder, tokenizer=None, tokenizer_2=None)
        if lora_file is not None:
            pipe.load_lora_weights(str(lora_file.parent), weight_name=lora_file.name)
            pipe.fuse_lora()
            pipe.unload_lora_weights()
    return {
        f"{part}.{name}": value.detach()
        for part, model in pipe.components.items()
        if hasattr(model, "named_parameters")
        for name, value in model.named_parameters()
    }
