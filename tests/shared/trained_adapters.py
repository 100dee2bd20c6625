"""Adapters of every PEFT method on the tiny Llama, as PEFT saves them, and what PEFT's own merge makes of them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

_TWO = {"target_modules": ["q_proj", "down_proj"]}
CONFIGS: dict[str, dict[str, Any]] = {
    "ADALORA": _TWO | {"total_step": 10},
    "BOFT": _TWO | {"boft_block_size": 4},
    "C3A": {"block_size": 8, "target_modules": ["q_proj"]},
    "FOURIERFT": _TWO | {"n_frequency": 20},
    "WAVEFT": _TWO | {"n_frequency": 20},
    "OFT": _TWO | {"oft_block_size": 4},
    "IA3": _TWO | {"feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "VBLORA": _TWO | {"num_vectors": 8, "vector_length": 8, "topk": 2},
    "ROAD": _TWO | {"group_size": 8},
    "GRALORA": _TWO | {"r": 4, "gralora_k": 2},
    "MISS": _TWO | {"r": 4},
    "SHIRA": _TWO | {"r": 4},
    "TINYLORA": _TWO | {"weight_tying": 1.0},
}


def save(base: Path, folder: Path, peft_type: str, seed: int = 0, **options: Any) -> Path:
    """An adapter whose trained parts are random, saved by PEFT."""
    import peft
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    if "kasa_config" in options:
        options = options | {"kasa_config": peft.KasaConfig()}
    config = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(peft_type)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(
            LlamaForCausalLM.from_pretrained(base),
            config(task_type="CAUSAL_LM", **CONFIGS.get(peft_type, _TWO) | options),
        )
        generator = torch.Generator().manual_seed(seed)
        for value in (p for p in model.parameters() if p.requires_grad and p.is_floating_point()):
            value.data = value.data + 0.05 * torch.randn(value.shape, generator=generator).to(
                value.dtype
            )
        model.save_pretrained(folder)
    return folder


def weights(base: Path) -> dict[str, np.ndarray]:
    """The base's weights in float64."""
    from transformers import LlamaForCausalLM

    return {
        k: v.double().numpy()
        for k, v in LlamaForCausalLM.from_pretrained(base).state_dict().items()
    }


def merged_by_peft(base: Path, folder: Path) -> dict[str, np.ndarray]:
    """The weights of PEFT's own merge, in float64."""
    import peft
    from transformers import LlamaForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), str(folder))
        return {k: v.double().numpy() for k, v in model.merge_and_unload().state_dict().items()}
