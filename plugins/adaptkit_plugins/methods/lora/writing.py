"""LoRA as other tools read it: kohya's scripts, diffusers and ComfyUI.

Notable choices:
- a file for kohya has one alpha throughout, other scales going into lora_up: diffusers' reader loses alphas that differ
- ComfyUI reads kohya's names for a UNet and its text encoders; of a transformer it reads the original model's names
  under `diffusion_model.`, and diffusers' under `transformer.` for those models that it has a table for
- what a tool has no place for is refused, never left out
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from adaptkit.errors import Unmergeable
from adaptkit.extend import Translated
from adaptkit.extend.layers import model_of as base_model
from adaptkit.types import TensorInfo
from adaptkit_plugins.methods.lora.files import MAGNITUDE, scale_of, stem_of
from adaptkit_plugins.methods.lora.names import (
    COMFY,
    PARTS,
    check_names,
    is_original,
    model_of,
    model_of_attention,
    part_of,
)
from adaptkit_plugins.methods.lora.tensors import constant, count, reader, scaled, shaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from adaptkit.extend import AdapterView, Array, Module

    Tensors = dict[str, tuple[TensorInfo, Callable[[], Array]]]


def written(dialect: str, view: AdapterView, modules: Sequence[Module]) -> Translated:
    """The adapter as another tool reads it; what that tool has no place for is refused."""
    if dialect == "unsloth":
        raise Unmergeable(
            f"{dialect} is only read",
            why="Unsloth reads what PEFT writes",
            fix="adaptkit export REF DIR",
        )
    if dialect == "diffusers":
        check_names(view, modules)
    _check_whole(view, dialect)
    distinct = {module.name: module for module in modules}
    alphas = {
        name: scale_of(view.config, module) * module.saved_rank for name, module in distinct.items()
    }
    used = [value for value in alphas.values() if value] or [1.0]  # an alpha of 0 goes into lora_up
    alpha = Counter(used).most_common(1)[0][0]
    both = any(name.startswith("text_encoder_2.") for name in distinct)
    model = _model(view, distinct.values()) if dialect == "kohya" else ""
    parts = {name: part_of(view, name) for name in distinct}
    original = any(is_original(name.removeprefix(COMFY)) for _, name in parts.values())
    tensors: Tensors = {}
    for module in distinct.values():
        part, name = parts[module.name]
        if dialect == "kohya" or (dialect == "comfyui" and part != "transformer"):
            prefix = "lora_te" if part == "text_encoder" and not both else PARTS[part]
            if part == "transformer":
                prefix = PARTS["unet"] if original else _kohya_prefix(view, name, model)
            flat = f"{prefix}_{name.replace('.', '_')}"
            tensors |= _with_alpha(view, module, flat, alpha, alphas[module.name] / alpha)
        else:
            full = f"{part}.{name}" if dialect == "diffusers" else _comfy(view, name, original)
            tensors |= _scaled(view, module, full)
    rank = max(module.saved_rank for module in modules)
    return Translated(
        {},
        {key: info for key, (info, _) in tensors.items()},
        lambda key: tensors[key][1](),
        "pytorch_lora_weights.safetensors" if dialect == "diffusers" else "lora.safetensors",
        {"ss_network_module": "networks.lora", "ss_network_dim": str(rank)}
        if dialect == "kohya"
        else {"format": "pt"},
    )


def _check_whole(view: AdapterView, dialect: str) -> None:
    left = [
        key
        for key in view.header
        if not re.search(r"\.lora_(?:[AB]\.weight|magnitude_vector(?:\.weight)?)$", key)
    ]
    if left:
        raise Unmergeable(
            f"cannot write {view.label} for {dialect}",
            why=f"it has no place for '{left[0]}'",
            fix="adaptkit strip REF takes parts out; or keep it as a PEFT directory",
        )


def _model(view: AdapterView, modules: Iterable[Module]) -> str:
    """The model whose transformer it is for, which kohya's prefix depends on; empty where that is told by no module."""
    parts = [(part_of(view, module.name), module.shape[1]) for module in modules]
    widths = {name: width for (part, name), width in parts if part == "transformer"}
    base = base_model(view)
    found = model_of_attention(widths, base.parameters if base is not None else ())
    if found is None:
        raise Unmergeable(
            f"cannot write {view.label} for kohya",
            why="SD3, Flux, HunyuanVideo and Qwen-Image name its modules alike, and kohya's tools read them under "
            "other names of each",
            fix="say which it is for: adaptkit base verify REF --base DIR; or --to diffusers, or comfyui",
        )
    return found


def _kohya_prefix(view: AdapterView, name: str, model: str) -> str:
    """What kohya's scripts, which call every diffusion model a unet, put before a transformer's module."""
    if model in {"QwenImage", "ZImage"}:
        return PARTS["unet"]
    if model in {"Wan", "Lumina2"}:
        raise Unmergeable(
            f"cannot write {view.label} for kohya",
            why=f"its tools read {model} by the original model's names, and '{name}' is diffusers'",
            fix="give it the file that was added first; or --to diffusers",
        )
    return PARTS["transformer"]


def _comfy(view: AdapterView, name: str, original: bool) -> str:
    """The key of a transformer's module as ComfyUI looks for it; `original` where the file has the original model's names."""
    name = name.removeprefix(COMFY)
    if original:
        return f"{COMFY}{name}"
    if model_of([name]) == "Wan":
        raise Unmergeable(
            f"cannot write {view.label} for comfyui",
            why=f"ComfyUI reads Wan by the original model's names, and '{name}' is diffusers'",
            fix="give it the file that was added first; or --to diffusers",
        )
    return f"transformer.{name}"


def _with_alpha(
    view: AdapterView, module: Module, flat: str, alpha: float, factor: float
) -> Tensors:
    A, B = (f"{stem_of(view, module)}.{end}" for end in ("lora_A.weight", "lora_B.weight"))
    tensors: Tensors = {
        f"{flat}.alpha": (TensorInfo("F32", (), 4), constant(alpha)),
        f"{flat}.lora_down.weight": (view.header[A], reader(view, A)),
        f"{flat}.lora_up.weight": (view.header[B], scaled(view, B, factor)),
    }
    if mark := _magnitude(view, module):
        info = view.header[mark]
        tensors[f"{flat}.dora_scale"] = (
            TensorInfo(info.dtype, (count(info.shape), 1), info.nbytes),
            shaped(view, mark, (-1, 1)),
        )
    return tensors


def _scaled(view: AdapterView, module: Module, full: str) -> Tensors:
    A, B = (f"{stem_of(view, module)}.{end}" for end in ("lora_A.weight", "lora_B.weight"))
    tensors: Tensors = {
        f"{full}.lora_A.weight": (view.header[A], reader(view, A)),
        f"{full}.lora_B.weight": (
            view.header[B],
            scaled(view, B, scale_of(view.config, module)),
        ),
    }
    if mark := _magnitude(view, module):
        tensors[f"{full}.lora_magnitude_vector"] = (view.header[mark], reader(view, mark))
    return tensors


def _magnitude(view: AdapterView, module: Module) -> str:
    stem = stem_of(view, module)
    ends = (f"{stem}{MAGNITUDE}", f"{stem}{MAGNITUDE}.weight")
    return next((key for key in ends if key in view.header), "")
