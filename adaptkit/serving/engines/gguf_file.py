"""A LoRA adapter as llama.cpp's GGUF file, with the library `gguf`, named as llama.cpp's own converter names it.

https://github.com/ggml-org/llama.cpp/blob/master/convert_lora_to_gguf.py: `general.type` adapter, `adapter.type` lora,
`adapter.lora.alpha`; each tensor is the base's GGUF name with `.lora_a` (r×n) or `.lora_b` (m×r), and llama.cpp
multiplies by alpha / r. Where rows of the base are permuted (Llama's q and k), those of B are as well.
A module whose scale is not alpha / r (rsLoRA, alpha_pattern) has the difference multiplied into B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.errors import Refused, requires_extra
from adaptkit.extend import LowRank

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.extend import Array

CONVERTER = "llama.cpp's convert_lora_to_gguf.py knows more"
ARCHITECTURES: Mapping[str, str] = {
    "llama": "LLAMA",
    "mistral": "LLAMA",
    "qwen2": "QWEN2",
    "qwen3": "QWEN3",
    "gemma": "GEMMA",
    "gemma2": "GEMMA2",
    "phi3": "PHI3",
}
"""transformers' model types, and the architecture that llama.cpp converts each to."""
PERMUTED = frozenset({"llama", "mistral"})
"""Whose q and k rows llama.cpp reorders for its own form of rotary embeddings."""


@dataclass(frozen=True, slots=True)
class BaseShape:
    """What of a base's config.json the conversion needs."""

    kind: str
    layers: int
    heads: int
    kv_heads: int

    @classmethod
    def of(cls, config: Mapping[str, Any], label: str) -> BaseShape:
        """Read a config.json; `Refused` when llama.cpp's names for it are not known here."""
        kind = config.get("model_type")
        if not isinstance(kind, str) or kind not in ARCHITECTURES:
            raise Refused(
                f"cannot write a GGUF adapter for {label}",
                why=f"the model type is {kind!r}, and known are {', '.join(ARCHITECTURES)}",
                fix=CONVERTER,
            )
        try:
            layers, heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
            return cls(kind, layers, heads, int(config.get("num_key_value_heads") or heads))
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(
                f"cannot write a GGUF adapter for {label}",
                why="its config.json does not say how many layers and heads it has",
                fix="--base DIR with the whole config.json",
            ) from error


def write(source: OpenAdapter, shape: BaseShape, path: Path, name: str) -> int:
    """Write an opened LoRA adapter as a GGUF file of float32; returns how many tensors it has."""
    with requires_extra("gguf", f"cannot write {source.label} as GGUF"):
        from gguf import GGMLQuantizationType, GGUFType, GGUFWriter, Keys, LlamaFileType
        from gguf.constants import MODEL_ARCH, MODEL_ARCH_NAMES
        from gguf.tensor_mapping import get_tensor_name_map

    arch = getattr(MODEL_ARCH, ARCHITECTURES[shape.kind])
    names = get_tensor_name_map(arch, shape.layers)
    alpha = float(source.adapter.config.get("lora_alpha") or 1.0)
    writer = GGUFWriter(path, MODEL_ARCH_NAMES[arch])
    count = 0
    try:
        writer.add_type(GGUFType.ADAPTER)
        writer.add_name(name)
        writer.add_string(Keys.Adapter.TYPE, "lora")
        writer.add_float32(Keys.Adapter.LORA_ALPHA, alpha)
        writer.add_file_type(LlamaFileType.ALL_F32)
        for module in source.method.modules(source.adapter):
            there = names.get_name(f"{module.name}.weight", try_suffixes=(".weight",))
            delta = source.method.delta(source.adapter, module)
            if there is None or module.kind != "linear" or not isinstance(delta, LowRank):
                raise Refused(
                    f"cannot write {source.label} as GGUF",
                    why=f"'{module.name}' is no linear layer that {MODEL_ARCH_NAMES[arch]} has in llama.cpp",
                    fix=f"adaptkit strip {source.label} --modules '{module.name}', or {CONVERTER}",
                )
            A, B = delta.A.astype(np.float32), delta.B.astype(np.float32)
            B = B * np.float32(delta.scale * delta.rank / alpha)
            if shape.kind in PERMUTED:
                B = permuted(B, module.name, shape)
            for part, array in (("lora_a", A), ("lora_b", B)):
                writer.add_tensor(
                    f"{there}.{part}",
                    np.ascontiguousarray(array),
                    raw_dtype=GGMLQuantizationType.F32,
                )
                count += 1
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return count


def permuted(B: Array, module: str, shape: BaseShape) -> Array:
    """B with its rows in llama.cpp's order: in q and k, the two halves of each head are interleaved."""
    last = module.rpartition(".")[2]
    heads = {"q_proj": shape.heads, "k_proj": shape.kv_heads}.get(last)
    if heads is None:
        return B
    rows, columns = B.shape
    return B.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
