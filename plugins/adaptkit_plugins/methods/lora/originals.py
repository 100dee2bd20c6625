"""LoRA files with the names of original checkpoints (Flux, SDXL, Wan, …), through diffusers' own converters.

kohya's scripts, ai-toolkit and ComfyUI name modules as the model's authors did; diffusers fuses and splits other layers
and names them otherwise, so names alone cannot be translated: `img_attn.qkv` becomes three modules. The converters that
diffusers reads such files with are the authority. What they would drop without a word keeps the file as it is.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.extend import AdapterView, Array

# The model, what its module names look like (dots and underscores are one), and the mixin whose converter reads them.
_FAMILIES = (
    (
        "HunyuanVideo",
        r"double_blocks_\d+_(?:img|txt)_(?:mod_linear|mlp_fc)|individual_token_refiner",
        "HunyuanVideoLoraLoaderMixin",
    ),
    ("Flux", r"(?:double|single)_blocks_\d+_", "FluxLoraLoaderMixin"),
    (
        "SDXL",
        r"lora_unet_(?:input|output)_blocks_\d+_|lora_unet_middle_block_",
        "StableDiffusionXLLoraLoaderMixin",
    ),
    ("Wan", r"(?:^|_)blocks_\d+_(?:self_attn|cross_attn|ffn)_", "WanLoraLoaderMixin"),
    (
        "Lumina 2",
        r"(?:^|_)(?:layers|context_refiner|noise_refiner)_\d+_attention_(?:qkv|out)",
        "Lumina2LoraLoaderMixin",
    ),
    (
        "Qwen-Image",
        r"transformer_blocks_\d+_(?:img_mlp|txt_mlp|attn_add_q_proj|img_mod|txt_mod)",
        "QwenImageLoraLoaderMixin",
    ),
)
_CONVERTED_BY_NONE = (  # of these, diffusers has no converter for the original names
    ("SD3", r"joint_blocks_\d+_(?:x|context)_block_"),
)
_ATTENTION = re.compile(  # in Flux and in HunyuanVideo, where they become the same modules
    r"lora_unet_(?:double_blocks_\d+_(?:img|txt)_attn_(?:qkv|proj)|single_blocks_\d+_linear[12])"
)
_QKV = re.compile(r"attention[._]qkv\.(?:lora_up|lora_B)\.")
_LINEAR1 = re.compile(r"single_blocks[._]\d+[._]linear1\.(?:lora_up|lora_B)\.")
_MLP = re.compile(r"double_blocks[._]\d+[._](?:img|txt)_mlp[._]0\.(?:lora_up|lora_B)\.")
_HUNYUAN = re.compile(
    r"double_blocks\.\d+\.(?:img|txt)_attn_(?:qkv|proj)\."
)  # Flux has `img_attn.qkv`
_DROPPED = (
    "dora_scale",
    ".diff",
    "text_projection",
    "position_embedding",
    "t5xxl",
    "lora_mid",
    "hada_",
    "lokr_",
)
EMBEDDINGS = "bundle_emb."  # textual inversions that OneTrainer and others bundle with a LoRA
_TRANSLATED = re.compile(r"(?:unet|transformer(?:_2)?|text_encoder(?:_\d)?)\.(?!lora_)[\w.]+$")
_OF_Z_IMAGE = re.compile(  # the layers whose names its converter knows; others come out in pieces
    r"transformer\.(?:(?:layers|(?:noise|context)_refiner)\.\d+\.(?:attention\.to_|feed_forward\.|adaLN_)|(?:cap|t)_embedder\.)"
)
_LUMINA = re.compile(
    r"lora_unet_(layers|(?:context|noise)_refiner)_(\d+)_(attention|feed_forward|adaLN_modulation)_"
)
_DOTS = r"\1.\2.\3."
_BLOCK_OF_LUMINA = re.compile(
    r"diffusion_model\.(?P<stack>layers|(?:context|noise)_refiner)\.(?P<number>\d+)\."
)
_WAN = re.compile(r"^lora_unet_blocks_(\d+)_(self_attn|cross_attn|ffn)_")
_FACTOR = re.compile(r"\.(?:(?:lora_)?(?:down|up)\.weight|lora_[AB]\.(?:default\.)?weight|alpha)$")


def family_of(view: AdapterView) -> str:
    """The model whose original names a file has; empty for none."""
    found = _family(view)
    if found is None:
        return ""
    stems = {_FACTOR.sub("", key) for key in view.header if _FACTOR.search(key)}
    shared = found[0] == "Flux" and all(_ATTENTION.fullmatch(stem) for stem in stems)
    return "Flux or HunyuanVideo" if shared else found[0]


def from_original(view: AdapterView) -> tuple[dict[str, Array], str]:
    """The tensors as diffusers names them, alphas multiplied in; else nothing, and why the names stay as they are."""
    found = _family(view)
    if found is None:
        return {}, ""
    model, mixin = found
    odd = next((k for k in view.header if any(mark in k for mark in _DROPPED)), None)
    if odd is not None:
        return {}, f"it holds '{odd}', which diffusers' converter for {model} would drop"
    try:
        import diffusers
        import torch
        from diffusers.utils import logging
    except ImportError:
        return {}, "diffusers, which translates them, is not installed: pip install diffusers"
    loader: Any = getattr(diffusers.loaders.lora_pipeline, mixin, None) if mixin else None
    if loader is None:
        return {}, f"diffusers {diffusers.__version__} has no converter for such names of {model}"
    given = {
        name: torch.from_numpy(_folded(view, key))
        for key, name in _spelled(view, model)
        if not key.startswith(EMBEDDINGS)
    }
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = _converted(loader, given, model)
    except Exception as error:  # noqa: BLE001  (whatever a converter stumbles over, the file itself is sound)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return {}, f"diffusers' converter for {model} does not take it: {first[:120]}"
    finally:
        logging.set_verbosity(level)
    known = _OF_Z_IMAGE if model == "Z-Image" else _TRANSLATED
    if left := next((name for name in made if not known.match(name)), ""):
        return {}, f"diffusers' converter for {model} makes '{left[:80]}' of it"
    return {name: tensor.contiguous().numpy() for name, tensor in made.items()}, ""


def _converted(loader: Any, given: dict[str, Any], model: str) -> dict[str, Any]:
    if model == "SDXL":
        from types import SimpleNamespace

        made, _ = loader.lora_state_dict(given, unet_config=SimpleNamespace(layers_per_block=2))
        return dict(made)  # its alphas are the ranks: they were multiplied in
    if model == "Lumina 2":
        made = loader.lora_state_dict(given | _missing_of_lumina(given))
        absent = {name.rpartition(".lora_")[0] for name, t in made.items() if t.isnan().any()}
        return {name: t for name, t in made.items() if name.rpartition(".lora_")[0] not in absent}
    made = loader.lora_state_dict(given)
    return dict(made[0] if isinstance(made, tuple) else made)


def _missing_of_lumina(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the converter for Lumina asks for and a file of some modules has not, as factors that are no numbers."""
    import torch

    blocks: dict[str, int] = {}
    for name in given:
        if match := _BLOCK_OF_LUMINA.match(name):
            blocks[match["stack"]] = max(int(match["number"]) + 1, blocks.get(match["stack"], 0))
    layers = {"attention.qkv": 2304 + 768 + 768, "attention.out": 1, "adaLN_modulation.1": 1}
    layers |= {f"feed_forward.w{number}": 1 for number in (1, 2, 3)}
    found = {}
    for stack, count in blocks.items():
        for number in range(count):
            for layer, rows in layers.items():
                stem = f"diffusion_model.{stack}.{number}.{layer}"
                modulated = layer != "adaLN_modulation.1" or stack != "context_refiner"
                if f"{stem}.lora_A.weight" not in given and modulated:
                    found[f"{stem}.lora_A.weight"] = torch.full((1, 1), torch.nan)
                    found[f"{stem}.lora_B.weight"] = torch.full((rows, 1), torch.nan)
    return found


def _family(view: AdapterView) -> tuple[str, str] | None:
    keys = [key for key in view.header if _FACTOR.search(key)]
    if any(key.startswith(("transformer.", "unet.", "base_model.")) for key in keys):
        return None
    if any(_HUNYUAN.search(key) for key in keys):
        return next((model, mixin) for model, _, mixin in _FAMILIES if model == "HunyuanVideo")
    flats = [
        re.sub(r"^diffusion_model\.", "", _FACTOR.sub("", key)).replace(".", "_") for key in keys
    ]
    for model, pattern in _CONVERTED_BY_NONE:
        if any(re.search(pattern, flat) for flat in flats):
            return model, ""
    for model, pattern, mixin in _FAMILIES:
        if any(re.search(pattern, flat) for flat in flats):
            if model == "Flux" and _of_flux_2(view):
                return "Flux 2", "Flux2LoraLoaderMixin"
            # its keys and values have the queries' rows, Lumina's a third of them
            square = model == "Lumina 2" and any(map(_equal_parts, _sizes(view, _QKV)))
            return ("Z-Image", "ZImageLoraLoaderMixin") if square else (model, mixin)
    return None


def _of_flux_2(view: AdapterView) -> bool:
    """Whether the sizes of layers that Flux and Flux 2 name alike are those of the second, whose MLP has a gate."""
    return any(
        rows == times * columns
        for pattern, times in ((_LINEAR1, 9), (_MLP, 6))
        for rows, columns in _sizes(view, pattern)
    )


def _sizes(view: AdapterView, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    """Rows and columns of the layers whose second factor has such a key."""
    found = []
    for key in view.header:
        if pattern.search(key):
            other = key.replace("lora_up", "lora_down").replace("lora_B", "lora_A")
            if other in view.header:
                found.append((view.header[key].shape[0], view.header[other].shape[-1]))
    return found


def _equal_parts(shape: tuple[int, int]) -> bool:
    return shape[0] == 3 * shape[1]


def _spelled(view: AdapterView, model: str) -> list[tuple[str, str]]:
    """Each key with the spelling that the model's converter takes: kohya's for Flux, ComfyUI's for the rest."""
    found = []
    for key in view.header:
        stem, end = _split(key.removeprefix("diffusion_model."))
        if model == "Flux" and ".processor." in stem:  # XLabs
            found.append((key, key))
        elif model in {"Flux", "Flux 2", "Z-Image"}:
            end = end.replace("lora_A", "lora_down").replace("lora_B", "lora_up")
            prefix = "" if stem.startswith("lora_") else "lora_unet_"
            found.append((key, f"{prefix}{stem.replace('.', '_')}{end}"))
        elif model == "Wan":
            stem = _WAN.sub(r"blocks.\1.\2.", stem)
            found.append((key, f"diffusion_model.{stem}{end}"))
        elif model == "Lumina 2":
            end = end.replace("lora_down", "lora_A").replace("lora_up", "lora_B")
            if end != ".alpha":  # multiplied in, and its converter takes none
                found.append((key, f"diffusion_model.{_LUMINA.sub(_DOTS, stem)}{end}"))
        elif model in {"SDXL", "HunyuanVideo"} or stem.startswith("lora_"):
            found.append((key, f"{stem}{end}"))
        else:
            found.append((key, f"diffusion_model.{stem}{end}"))
    return found


def _folded(view: AdapterView, key: str) -> Array:
    """One tensor in float32, α/r multiplied into the second factor: not every converter reads alphas that differ."""
    import numpy as np

    stem, end = _split(key)
    array = view.read(key).astype("float32")
    rank = next(
        (
            view.header[other].shape[0]
            for first in (".lora_down.weight", ".lora_A.weight")
            if (other := f"{stem}{first}") in view.header
        ),
        1,
    )
    if end == ".alpha":
        return np.full_like(array, rank)
    if end in {".lora_up.weight", ".lora_B.weight"} and f"{stem}.alpha" in view.header:
        array = array * np.float32(float(view.read(f"{stem}.alpha").reshape(-1)[0]) / rank)
    folded: Array = array
    return folded


def _split(key: str) -> tuple[str, str]:
    match = _FACTOR.search(key)
    return (key[: match.start()], key[match.start() :]) if match else (key, "")
