"""Module names in files of other tools: kohya's, diffusers' and ComfyUI's, and the module each means."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from adaptkit.errors import Unmergeable
from adaptkit.extend.module_names import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from adaptkit.extend import AdapterView, Module

PARTS = {
    "unet": "lora_unet",
    "transformer": "lora_transformer",
    "text_encoder": "lora_te1",
    "text_encoder_2": "lora_te2",
    "text_encoder_3": "lora_te3",
}
KOHYA = re.compile(
    r"(?P<part>lora_(?:unet|transformer|te|te1|te2|te3))_(?P<flat>[^.]+)\.(?P<what>lora_down\.weight|lora_up\.weight|alpha|dora_scale|.+)"
)
DIFFUSERS = re.compile(
    r"(?P<module>.+?)(?:\.lora_linear_layer|\.lora)?\."
    r"(?P<what>lora_A\.weight|lora_B\.weight|lora_down\.weight|lora_up\.weight|lora_magnitude_vector|down\.weight"
    r"|up\.weight|alpha|dora_scale)"
)
_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora$")
_TEXT = re.compile(r"(?<=\.self_attn\.)to_(q|k|v|out)_lora$")
COMFY = "diffusion_model."
HINTS = {
    "unet": (
        "down_blocks",
        "up_blocks",
        "mid_block",
        "input_blocks",
        "output_blocks",
        "middle_block",
    ),
    "text_encoder": ("text_model",),
    "transformer": (
        "transformer_blocks",
        "single_transformer_blocks",
        "double_blocks",
        "single_blocks",
        "joint_blocks",
        "joint_transformer_blocks",
        "double_stream_blocks",
        "single_stream_blocks",
        "context_refiner",
        "noise_refiner",
        "blocks",
        "layers",
    ),
}
_WORDS = frozenset(
    """down_blocks up_blocks mid_block transformer_blocks single_transformer_blocks double_blocks single_blocks
    input_blocks output_blocks middle_block to_q to_k to_v to_out to_add_out add_q_proj add_k_proj add_v_proj to_qkv
    proj_in proj_out proj_mlp ff_context time_emb_proj time_embedding time_text_embed context_embedder x_embedder
    linear_1 linear_2 conv_shortcut conv_in conv_out conv_norm_out text_model self_attn q_proj k_proj v_proj out_proj o_proj up_proj
    gate_proj down_proj token_embedding position_embedding layer_norm1 layer_norm2 final_layer_norm img_attn txt_attn
    img_mlp txt_mlp img_mod txt_mod in_layers out_layers emb_layers skip_connection norm_out add_embedding text_projection
    time_embed label_emb final_layer img_in txt_in time_in vector_in guidance_in cross_attn joint_blocks context_block
    x_block feed_forward context_refiner noise_refiner t_embedder y_embedder cap_embedder time_text_embed
    patch_embedding text_embedding norm1_context norm_added_q norm_added_k k_img v_img adaLN_modulation""".split()
)
_LONGEST = max(word.count("_") for word in _WORDS) + 1


_SINGLE = frozenset(
    """attn attn1 attn2 ff net proj norm norm1 norm2 norm3 mlp fc1 fc2 conv conv1 conv2 op out to lora linear q k v o w1 w2 w3
    qkv embeddings encoder layers resnets attentions downsamplers upsamplers modulation lin ffn blocks""".split()
)


def check_names(view: AdapterView, modules: Sequence[Module]) -> None:
    """Diffusers passes over what it has no module for, without a word."""
    names = (m.name.partition(".")[2].removeprefix(COMFY) for m in modules)
    found = next((name for name in names if is_original(name)), None)
    if found is not None:
        raise Unmergeable(
            f"cannot write {view.label} for diffusers",
            why=f"'{found}' is a name of the original checkpoint, which diffusers would pass over",
            fix="add the file again with diffusers installed, which translates such names",
        )


_ORIGINAL = re.compile(
    r"(?:double_blocks|single_blocks|input_blocks|output_blocks|middle_block|joint_blocks)\.|final_layer\.|(?:img|txt)_in$"
    r"|blocks\.\d+\.(?:self_attn|cross_attn)\.[a-z_]+$|blocks\.\d+\.ffn\.\d+$"
    r"|(?:layers|context_refiner|noise_refiner)\.\d+\.attention\.(?:qkv|out)$"
)


def is_original(name: str) -> bool:
    """Whether a module of a diffusion model is called as in the original checkpoint, not as in diffusers."""
    return _ORIGINAL.match(name) is not None


# how diffusers names the layers of transformers that only one model has
_MODELS = {
    "Wan": re.compile(r"blocks\.\d+\.(?:attn[12]|ffn\.net)\.|condition_embedder\."),
    "ZImage": re.compile(
        r"(?:layers|context_refiner|noise_refiner)\.\d+\.(?:attention\.to_|feed_forward\.w\d)"
    ),
    "Lumina2": re.compile(
        r"(?:layers|context_refiner|noise_refiner)\.\d+\.(?:attn|feed_forward\.linear_\d|norm1)\."
    ),
    "QwenImage": re.compile(r"transformer_blocks\.\d+\.(?:img|txt)_(?:mlp|mod)\."),
}


def model_of(names: Iterable[str]) -> str:
    """The model whose transformer has modules of these names in diffusers; empty where several have."""
    listed = list(names)
    found = (m for m, pattern in _MODELS.items() if any(pattern.match(name) for name in listed))
    return next(found, "")


_SHARED = re.compile(r"transformer_blocks\.(?P<block>\d+)\.attn\.")
_OF_SD3 = {1536, 2432}  # numbers in a row of its attention: medium, large
_OF_OTHERS = 3072  # of Flux, HunyuanVideo and Qwen-Image alike
_FEWER_BLOCKS = 20  # Flux has 19 such blocks, HunyuanVideo 20, Qwen-Image 60


def model_of_attention(widths: Mapping[str, int], known: Iterable[str]) -> str | None:
    """The model of a transformer's modules, given with the numbers in a row of their weights; None where several have them.

    Attention is called alike in SD3, Flux, HunyuanVideo and Qwen-Image: then `known`, the parameters of the base's class,
    decide, else sizes that only one of them has. Empty where names do not matter: for SD3, Flux, HunyuanVideo and others.
    """
    blocks = [match for name in widths if (match := _SHARED.match(name))]
    named = model_of(widths)
    if named or not widths or len(blocks) < len(widths):
        return named
    parameters = [name.removeprefix("transformer.") for name in known]
    if parameters:
        return model_of(parameters)
    found = {width for name, width in widths.items() if "to_q" in name or "to_k" in name}
    if found and found <= _OF_SD3:
        return ""
    if found == {_OF_OTHERS} and max(int(match["block"]) for match in blocks) >= _FEWER_BLOCKS:
        return "QwenImage"
    return None


_UNET = ("conv_", "time_", "add_", "label_", "class_", "out")


def kohya_key(view: AdapterView, key: str, notes: list[str]) -> tuple[str, str]:
    """The module that one of kohya's keys means, and which part of it; a guess is added to `notes`."""
    match = KOHYA.fullmatch(key)
    if not match:
        return key, ""
    part = next((name for name, prefix in PARTS.items() if match["part"] == prefix), "text_encoder")
    what = {
        "lora_down.weight": "A",
        "lora_up.weight": "B",
        "lora_mid.weight": "mid",
        "alpha": "alpha",
        "dora_scale": "magnitude",
    }.get(match["what"], match["what"])
    if found := _in_pipeline(part, match["flat"], view.base_shapes or ()):
        return found, what
    name, guessed = dotted(match["flat"], view.base_shapes)
    if guessed:
        notes.append(
            f"'{match['flat']}' was read as '{name}', which is a guess: kohya's names have underscores for dots; "
            "--base DIR settles it"
        )
    first = name.partition(".")[0]
    if part == "unet" and not (first in HINTS["unet"] or first.startswith(_UNET)):
        part = "transformer"  # kohya calls every diffusion model a unet
    return f"{part}.{name}", what


def _in_pipeline(part: str, flat: str, known: Iterable[str]) -> str:
    """The module of a pipeline that a flat name means, with its component; empty for none.

    kohya calls every diffusion model a unet.
    """
    modules = _by_flat_name(tuple(known))
    components = ("unet", "transformer") if part == "unet" else (part,)
    return next(filter(None, (modules.get(f"{one}.{flat}") for one in components)), "")


@lru_cache(4)  # it is asked once for every key of a file
def _by_flat_name(known: tuple[str, ...]) -> dict[str, str]:
    """The modules of these tensors by their flat names, whole and behind their first part: `a_b_c` and `a.b_c`."""
    found: dict[str, str] = {}
    for name in known:
        module = name.rpartition(".")[0]
        first, _, rest = module.partition(".")
        found.setdefault(module.replace(".", "_"), module)
        found.setdefault(f"{first}.{rest.replace('.', '_')}", module)
    return found


def diffusers_key(key: str) -> tuple[str, str]:
    """The module that a key of diffusers or ComfyUI means, and which part of it."""
    match = DIFFUSERS.fullmatch(key)
    if not match:
        return key, ""
    what = {
        "lora_A.weight": "A",
        "lora_down.weight": "A",
        "down.weight": "A",
        "lora_B.weight": "B",
        "lora_up.weight": "B",
        "up.weight": "B",
        "alpha": "alpha",
        "lora_magnitude_vector": "magnitude",
        "dora_scale": "magnitude",
    }[match["what"]]
    module = _PROCESSOR.sub(
        lambda m: f".{m[1]}.0" if m[1] == "to_out" else f".{m[1]}", match["module"]
    )
    module = _TEXT.sub(lambda m: f"{m[1]}_proj", module)
    if module.startswith(COMFY):
        return f"transformer.{module.removeprefix(COMFY)}", what
    part = part_named(module)
    if part and not module.startswith(f"{part}."):
        module = f"{part}.{module}"
    return module, what


def part_named(module: str) -> str:
    """The part of a pipeline that a module's name begins with, or that has modules of such names; empty for none."""
    first = module.partition(".")[0]
    if first in PARTS:
        return first
    hints = {
        k: v for k, v in HINTS.items() if k != "transformer" or first not in {"blocks", "layers"}
    }
    return next((part for part, words in hints.items() if first in words), "")


def dotted(flat: str, known: Mapping[str, Any] | None) -> tuple[str, bool]:
    """The module that kohya's flat name means, and whether that is a guess."""
    if module := _by_flat_name(tuple(known or ())).get(flat):
        return module, False
    words, at, found = flat.split("_"), 0, []
    while at < len(words):
        length = next(
            (n for n in range(_LONGEST, 1, -1) if "_".join(words[at : at + n]) in _WORDS), 1
        )
        found.append("_".join(words[at : at + length]))
        at += length
    guessed = any(
        not word.isdigit() and word not in _WORDS and word not in _SINGLE for word in found
    )
    return ".".join(found), guessed


# a module of CLIP in transformers 5, whose class has no `text_model.`; files for every other tool have it
_CLIP = ("encoder.layers.", "embeddings.", "final_layer_norm.")


def part_of(view: AdapterView, name: str) -> tuple[str, str]:
    """The part of a pipeline that a module belongs to, and its name there."""
    first, _, rest = name.partition(".")
    if first in PARTS:
        clip = first.startswith("text_encoder") and rest.startswith(_CLIP)
        return first, f"text_model.{rest}" if clip else rest
    part = _hinted(first) or next(
        (
            part  # of a component alone, whose other modules say which it is
            for key in view.header
            if (part := _hinted(key.removeprefix(PREFIX).partition(".")[0]))
        ),
        "",
    )
    if not part:
        raise Unmergeable(
            f"cannot write {view.label} for a diffusion pipeline",
            why=f"'{name}' belongs to none of its parts",
            fix="adaptkit export REF DIR writes the PEFT directory",
        )
    return part, name


def _hinted(first: str) -> str:
    return next((part for part, hints in HINTS.items() if first in hints), "")
