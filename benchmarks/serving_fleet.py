"""What the serving benchmarks run on: one tiny Llama with a tokenizer, and adapters written without training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

VOCABULARY = 256
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def save_base(folder: Path, hidden: int, layers: int) -> Path:
    """A Llama with random weights, and a tokenizer of single characters."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 16 * 16,
        num_hidden_layers=layers,
        num_attention_heads=8,
        tie_word_embeddings=False,
        eos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = {chr(32 + at): at for at in range(95)}
    plain = Tokenizer(models.WordLevel(words, unk_token="~"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    plain.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="~").save_pretrained(folder)
    return folder


def load_base(folder: Path) -> Any:
    """The live model."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder).eval()


def save_adapters(
    base: Path, folder: Path, count: int, rank: int, targets: Sequence[str] = ALL
) -> list[Path]:
    """Adapters of one shape with other values, as PEFT would save them."""
    import numpy as np
    from safetensors.numpy import save_file

    about = json.loads((base / "config.json").read_text())
    hidden, inner = about["hidden_size"], about["intermediate_size"]
    sizes = {"gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}
    config = json.dumps(
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": str(base),
            "r": rank,
            "lora_alpha": 2 * rank,
            "target_modules": list(targets),
            "inference_mode": True,
        }
    )
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        tensors = {}
        for layer in range(about["num_hidden_layers"]):
            for target in targets:
                rows, columns = sizes.get(target, (hidden, hidden))
                room = "mlp" if target in sizes else "self_attn"
                stem = f"base_model.model.model.layers.{layer}.{room}.{target}.lora_"
                for side, shape in (("A", (rank, columns)), ("B", (rows, rank))):
                    values = rng.standard_normal(shape, np.float32) * np.float32(0.05)
                    tensors[f"{stem}{side}.weight"] = values
        target_folder = folder / str(number)
        target_folder.mkdir(parents=True)
        save_file(tensors, target_folder / "adapter_model.safetensors", {"format": "pt"})
        (target_folder / "adapter_config.json").write_text(config)
        made.append(target_folder)
    return made
