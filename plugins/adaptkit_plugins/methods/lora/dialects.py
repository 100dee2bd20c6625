"""LoRA as other tools write it: kohya's scripts, diffusers, and Unsloth's experts.

Notable choices:
- names of original checkpoints (Flux, SDXL, Wan, …) are translated by diffusers' own converters (`originals`)
- kohya's names have underscores for dots. With the base at hand its own names decide; else a list of the words that
  hold underscores themselves (`to_q`, `down_blocks`). Going back is exact in any case.
- a missing alpha means alpha = rank, as both tools read it
- a file for kohya has one alpha throughout, other scales going into lora_up: diffusers' reader loses alphas that differ
- modules keep the name of their part of the pipeline (`unet.`, `text_encoder.`), which is how diffusers names them
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadWeights, Unmergeable
from adaptkit.extend import Translated
from adaptkit.extend.module_names import matches, may_never_end
from adaptkit.types import TensorInfo
from adaptkit_plugins.methods.lora.experts import expert_keys, peft_order
from adaptkit_plugins.methods.lora.files import MAGNITUDE, PREFIX, scale_of, stem_of
from adaptkit_plugins.methods.lora.originals import family_of, from_original

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from adaptkit.extend import AdapterView, Array, Model, Module

DIALECTS = {
    "kohya": "kohya's sd-scripts: lora_unet_….lora_down.weight with an alpha for each module",
    "diffusers": "diffusers: unet.….lora_A.weight in pytorch_lora_weights.safetensors",
    "comfyui": "ComfyUI and ai-toolkit: diffusion_model.….lora_A.weight, the original model's names; read only",
    "unsloth": "a PEFT directory whose experts Unsloth ordered expert-slowest (before September 2026); read only",
}
_PARTS = {
    "unet": "lora_unet",
    "transformer": "lora_transformer",
    "text_encoder": "lora_te1",
    "text_encoder_2": "lora_te2",
    "text_encoder_3": "lora_te3",
}
_KOHYA = re.compile(
    r"(?P<part>lora_(?:unet|transformer|te|te1|te2|te3))_(?P<flat>[^.]+)\.(?P<what>lora_down\.weight|lora_up\.weight|alpha|dora_scale|.+)"
)
_DIFFUSERS = re.compile(
    r"(?P<module>.+?)(?:\.lora_linear_layer|\.lora)?\."
    r"(?P<what>lora_A\.weight|lora_B\.weight|lora_magnitude_vector|down\.weight|up\.weight|alpha)"
)
_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora$")
_TEXT = re.compile(r"(?<=\.self_attn\.)to_(q|k|v|out)_lora$")
_COMFY = "diffusion_model."
_LYCORIS = re.compile(
    r"(?:hada_(?:w1_a|w1_b|w2_a|w2_b|t1|t2)|lokr_(?:w1|w1_a|w1_b|w2|w2_a|w2_b|t2))"
)
_HINTS = {
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


def dialect_of(view: AdapterView) -> str:
    """Which tool wrote a file of weights without a configuration; empty when none of these."""
    if any(_KOHYA.fullmatch(key) for key in view.header):
        return "kohya"
    if any(key.startswith(_COMFY) for key in view.header):
        return "comfyui"
    if any(key.startswith(PREFIX) for key in view.header):
        return ""
    known = (match for key in view.header if (match := _DIFFUSERS.fullmatch(key)))
    return "diffusers" if any(_part_named(match["module"]) for match in known) else ""


def translated(
    dialect: str, view: AdapterView, modules: Callable[[], Iterable[Module]]
) -> Translated:
    """The adapter as PEFT would have saved it."""
    if dialect == "unsloth":
        return _from_unsloth(view, modules())
    notes: list[str] = []
    if model := family_of(view):
        arrays, reason = from_original(view)
        if arrays:
            view, dialect = _Held(view, arrays), "diffusers"
            notes.append(
                f"its names were those of the original {model}; diffusers' converter translated them"
            )
        else:
            notes.append(f"it keeps the names of the original {model}: {reason}")
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    odd = []
    for key in view.header:
        name, what = _kohya_key(view, key, notes) if dialect == "kohya" else _diffusers_key(key)
        if what not in {"A", "B", "alpha", "magnitude", "mid"} and not _LYCORIS.fullmatch(what):
            odd.append(key)
            continue
        parts[name][what] = key
    if odd:
        more = (
            f" and {len(odd) - 1} more that no LoRA has" if len(odd) > 1 else ", which no LoRA has"
        )
        raise Unmergeable(
            f"cannot read {view.label} as LoRA of {dialect}",
            why=f"it holds '{odd[0]}'{more}",
            fix="give the file that the tool itself wrote, or save it with PEFT",
        )
    lycoris = {what[:4] for keys in parts.values() for what in keys if _LYCORIS.fullmatch(what)}
    made = _as_lycoris(view, parts, lycoris) if lycoris else _as_peft(view, parts)
    return replace(made, notes=tuple(dict.fromkeys(notes)))


class _Held:
    """A file's tensors under other names, in memory: adapters are small."""

    base_shapes = None

    def __init__(self, view: AdapterView, arrays: Mapping[str, Array]) -> None:
        self.label, self.config, self._arrays = view.label, view.config, arrays
        dtype = next(iter(view.header.values())).dtype
        kept = dtype if dtype in {"F32", "F16", "BF16"} else "F32"
        size = 4 if kept == "F32" else 2
        self._dtype = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[kept]
        self.header = {
            name: TensorInfo(kept, tuple(array.shape), array.size * size)
            for name, array in arrays.items()
        }

    def model(self) -> Model | None:
        return None

    def read(self, key: str) -> Array:
        import ml_dtypes  # noqa: F401  (it makes numpy know bfloat16)

        stored: Array = self._arrays[key].astype(self._dtype)
        return stored


def written(dialect: str, view: AdapterView, modules: Sequence[Module]) -> Translated:
    """The adapter as another tool reads it; what that tool has no place for is refused."""
    if dialect in {"unsloth", "comfyui"}:
        raise Unmergeable(
            f"{dialect} is only read",
            why="Unsloth reads what PEFT writes"
            if dialect == "unsloth"
            else "ComfyUI reads what diffusers and kohya write",
            fix="adaptkit export REF --out DIR" if dialect == "unsloth" else "--to diffusers",
        )
    if dialect == "diffusers":
        _check_names(view, modules)
    left = [
        key
        for key in view.header
        if not re.search(r"\.lora_(?:[AB]\.weight|magnitude_vector(?:\.weight)?)$", key)
    ]
    if left:
        raise Unmergeable(
            f"cannot write {view.label} for {dialect}",
            why=f"it has no place for '{left[0]}'",
            fix="merge it without (--extras drop), or keep it as a PEFT directory",
        )
    tensors: dict[str, tuple[TensorInfo, Callable[[], Array]]] = {}
    names = {module.name for module in modules}
    both = any(name.startswith("text_encoder_2.") for name in names)
    distinct = {module.name: module for module in modules}
    alphas = {
        name: scale_of(view.config, module) * module.saved_rank for name, module in distinct.items()
    }
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    for module in distinct.values():
        part, name = _part_of(view, module.name)
        stem, scale = stem_of(view, module), scale_of(view.config, module)
        keys = {
            what: f"{stem}.{end}" for what, end in (("A", "lora_A.weight"), ("B", "lora_B.weight"))
        }
        mark = next(
            (
                f"{stem}{MAGNITUDE}{end}"
                for end in ("", ".weight")
                if f"{stem}{MAGNITUDE}{end}" in view.header
            ),
            "",
        )
        if dialect == "kohya":
            prefix = "lora_te" if part == "text_encoder" and not both else _PARTS[part]
            flat = f"{prefix}_{name.replace('.', '_')}"
            info = view.header[keys["A"]]
            tensors[f"{flat}.alpha"] = (
                TensorInfo(info.dtype, (), info.nbytes // max(1, _count(info.shape))),
                _constant(view, keys["A"], alpha),
            )
            tensors[f"{flat}.lora_down.weight"] = (view.header[keys["A"]], _reader(view, keys["A"]))
            tensors[f"{flat}.lora_up.weight"] = (
                view.header[keys["B"]],
                _scaled(view, keys["B"], alphas[module.name] / alpha),
            )
            if mark:
                info = view.header[mark]
                tensors[f"{flat}.dora_scale"] = (
                    TensorInfo(info.dtype, (_count(info.shape), 1), info.nbytes),
                    _shaped(view, mark, (-1, 1)),
                )
        else:
            full = f"{part}.{name}"
            tensors[f"{full}.lora_A.weight"] = (view.header[keys["A"]], _reader(view, keys["A"]))
            tensors[f"{full}.lora_B.weight"] = (
                view.header[keys["B"]],
                _scaled(view, keys["B"], scale),
            )
            if mark:
                tensors[f"{full}.lora_magnitude_vector"] = (view.header[mark], _reader(view, mark))
    file = "pytorch_lora_weights.safetensors" if dialect == "diffusers" else "lora.safetensors"
    rank = max(module.saved_rank for module in modules)
    metadata = (
        {"format": "pt"}
        if dialect == "diffusers"
        else {"ss_network_module": "networks.lora", "ss_network_dim": str(rank)}
    )
    return Translated(
        {},
        {key: info for key, (info, _) in tensors.items()},
        lambda key: tensors[key][1](),
        file,
        metadata,
    )


# ---------------------------------------------------------------- names


def _check_names(view: AdapterView, modules: Sequence[Module]) -> None:
    """Diffusers passes over what it has no module for, without a word."""
    names = (m.name.partition(".")[2].removeprefix(_COMFY) for m in modules)
    found = next((name for name in names if _ORIGINAL.match(name)), None)
    if found is not None:
        raise Unmergeable(
            f"cannot write {view.label} for diffusers",
            why=f"'{found}' is a name of the original checkpoint, which diffusers would pass over",
            fix="add the file again with diffusers installed, which translates such names",
        )


_ORIGINAL = re.compile(
    r"(?:double_blocks|single_blocks|input_blocks|output_blocks|middle_block|joint_blocks)\.|final_layer\.|(?:img|txt)_in$"
)


_UNET = ("conv_", "time_", "add_", "label_", "class_", "out")


def _kohya_key(view: AdapterView, key: str, notes: list[str]) -> tuple[str, str]:
    match = _KOHYA.fullmatch(key)
    if not match:
        return key, ""
    part = next(
        (name for name, prefix in _PARTS.items() if match["part"] == prefix), "text_encoder"
    )
    what = {
        "lora_down.weight": "A",
        "lora_up.weight": "B",
        "lora_mid.weight": "mid",
        "alpha": "alpha",
        "dora_scale": "magnitude",
    }.get(match["what"], match["what"])
    name, guessed = _dotted(match["flat"], view.base_shapes)
    if guessed:
        notes.append(
            f"'{match['flat']}' was read as '{name}', which is a guess: kohya's names have underscores for dots; "
            "--base DIR settles it"
        )
    first = name.partition(".")[0]
    if part == "unet" and not (first in _HINTS["unet"] or first.startswith(_UNET)):
        part = "transformer"  # kohya calls every diffusion model a unet
    return f"{part}.{name}", what


def _diffusers_key(key: str) -> tuple[str, str]:
    match = _DIFFUSERS.fullmatch(key)
    if not match:
        return key, ""
    what = {
        "lora_A.weight": "A",
        "down.weight": "A",
        "lora_B.weight": "B",
        "up.weight": "B",
        "alpha": "alpha",
        "lora_magnitude_vector": "magnitude",
    }[match["what"]]
    module = _PROCESSOR.sub(
        lambda m: f".{m[1]}.0" if m[1] == "to_out" else f".{m[1]}", match["module"]
    )
    module = _TEXT.sub(lambda m: f"{m[1]}_proj", module)
    if module.startswith(_COMFY):
        return f"transformer.{module.removeprefix(_COMFY)}", what
    part = _part_named(module)
    if part and not module.startswith(f"{part}."):
        module = f"{part}.{module}"
    return module, what


def _part_named(module: str) -> str:
    """The part of a pipeline that a module's name begins with, or that has modules of such names; empty for none."""
    first = module.partition(".")[0]
    if first in _PARTS:
        return first
    hints = {
        k: v for k, v in _HINTS.items() if k != "transformer" or first not in {"blocks", "layers"}
    }
    return next((part for part, words in hints.items() if first in words), "")


def _dotted(flat: str, known: Mapping[str, Any] | None) -> tuple[str, bool]:
    """The module that kohya's flat name means, and whether that is a guess."""
    for name in known or ():
        module = name.rpartition(".")[0]
        if module.replace(".", "_") == flat:
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


def _part_of(view: AdapterView, name: str) -> tuple[str, str]:
    """The part of a pipeline that a module belongs to, and its name there."""
    first, _, rest = name.partition(".")
    if first in _PARTS:
        return first, rest
    part = next((part for part, hints in _HINTS.items() if first in hints), None)
    if part is None:
        raise Unmergeable(
            f"cannot write {view.label} for a diffusion pipeline",
            why=f"'{name}' belongs to none of its parts",
            fix="adaptkit export REF --out DIR writes the PEFT directory",
        )
    return part, name


# ---------------------------------------------------------------- tensors


def _as_peft(view: AdapterView, parts: Mapping[str, Mapping[str, str]]) -> Translated:
    ranks, alphas = {}, {}
    layout: dict[str, TensorInfo] = {}
    readers: dict[str, Callable[[], Array]] = {}
    declared = _diffusers_alphas(view)
    for name, keys in sorted(parts.items()):
        if missing := {"A", "B"} - keys.keys():
            raise BadWeights(
                f"{view.label}: '{name}' has no lora_{missing.pop()}",
                why="a factor pair is incomplete",
                fix="save the adapter again",
            )
        ranks[name] = view.header[keys["mid" if "mid" in keys else "A"]].shape[0]
        alphas[name] = (
            float(view.read(keys["alpha"]).reshape(-1)[0])
            if "alpha" in keys
            else declared(name, ranks[name])
        )
        for what, end in (
            ("A", ".lora_A.weight"),
            ("B", ".lora_B.weight"),
            ("magnitude", MAGNITUDE),
        ):
            if what in keys:
                info, shape = view.header[keys[what]], None
                if what == "magnitude":
                    shape = (view.header[keys["B"]].shape[0],)
                    if _count(info.shape) != shape[0] or (
                        len(info.shape) > 1 and info.shape[0] != shape[0]
                    ):
                        raise Unmergeable(
                            f"cannot read '{keys[what]}' of {view.label}",
                            why=f"its shape is {list(info.shape)}: it "
                            "rescales columns, and PEFT's DoRA rescales rows",
                        )
                if what == "A" and "mid" in keys:
                    shape = _composed_shape(view, keys)
                    layout[f"{PREFIX}{name}{end}"] = TensorInfo(
                        info.dtype, shape, _count(shape) * info.nbytes // _count(info.shape)
                    )
                    readers[f"{PREFIX}{name}{end}"] = _composed(view, keys)
                    continue
                layout[f"{PREFIX}{name}{end}"] = TensorInfo(
                    info.dtype, shape or info.shape, info.nbytes
                )
                readers[f"{PREFIX}{name}{end}"] = (
                    _shaped(view, keys[what], shape) if shape else _reader(view, keys[what])
                )
    rank, alpha = (
        Counter(ranks.values()).most_common(1)[0][0],
        Counter(alphas.values()).most_common(1)[0][0],
    )
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _plain(alpha),
        "rank_pattern": {f"^{re.escape(n)}": r for n, r in ranks.items() if r != rank},
        "alpha_pattern": {f"^{re.escape(n)}": _plain(a) for n, a in alphas.items() if a != alpha},
        "target_modules": sorted(ranks),
        "use_dora": any("magnitude" in keys for keys in parts.values()),
        "lora_dropout": 0.0,
        "bias": "none",
        "init_lora_weights": True,
    }
    return Translated(config, layout, lambda key: readers[key]())


def _composed_shape(view: AdapterView, keys: Mapping[str, str]) -> tuple[int, ...]:
    """The shape of a down projection with the convolution behind it (LoCon) in one."""
    down, mid = view.header[keys["A"]].shape, view.header[keys["mid"]].shape
    if len(down) != len(mid) or set(down[2:]) != {1} or mid[1] != down[0]:
        raise BadWeights(
            f"{view.label}: the factors of '{keys['mid']}' do not fit",
            why=f"lora_down is {list(down)} and lora_mid is {list(mid)}",
            fix="save the adapter again",
        )
    return (mid[0], down[1], *mid[2:])


def _composed(view: AdapterView, keys: Mapping[str, str]) -> Callable[[], Array]:
    import numpy as np

    def read() -> Array:
        down, mid = view.read(keys["A"]), view.read(keys["mid"])
        flat = down.reshape(down.shape[:2]).astype("float64")
        made: Array = np.einsum("mn...,nc->mc...", mid.astype("float64"), flat)
        return np.ascontiguousarray(made).astype(down.dtype)

    return read


def _as_lycoris(
    view: AdapterView, parts: Mapping[str, Mapping[str, str]], kinds: set[str]
) -> Translated:
    """LoHa or LoKr, as PEFT would have saved it."""
    plain = [name for name, keys in parts.items() if not any(map(_LYCORIS.fullmatch, keys))]
    if len(kinds) > 1 or plain:
        raise Unmergeable(
            f"cannot read {view.label}",
            why="it mixes LoRA, LoHa and LoKr modules, and a PEFT directory holds one kind",
            fix="train it with one algorithm",
        )
    kind = kinds.pop()
    layout: dict[str, TensorInfo] = {}
    readers: dict[str, Callable[[], Array]] = {}
    ranks, alphas = {}, {}
    for name, keys in sorted(parts.items()):
        if "magnitude" in keys:
            raise Unmergeable(
                f"cannot read {view.label}",
                why=f"'{keys['magnitude']}' rescales the weights, which PEFT has for LoRA only",
            )
        first = next((keys[w] for w in (f"{kind}_w1_b", f"{kind}_w2_b") if w in keys), None)
        ranks[name] = view.header[first].shape[0] if first else 1
        # Both factors of a LoKr whole: LyCORIS scales by nothing then.
        alpha = float(view.read(keys["alpha"]).reshape(-1)[0]) if "alpha" in keys else 0.0
        alphas[name] = alpha if first and alpha else float(ranks[name])
        for what, key in keys.items():
            if what != "alpha":
                layout[f"{PREFIX}{name}.{what}"] = view.header[key]
                readers[f"{PREFIX}{name}.{what}"] = _reader(view, key)
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    config = {
        "peft_type": "LOHA" if kind == "hada" else "LOKR",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": rank,
        "alpha": _plain(alpha),
        "rank_pattern": {f"^{re.escape(n)}": r for n, r in ranks.items() if r != rank},
        "alpha_pattern": {f"^{re.escape(n)}": _plain(a) for n, a in alphas.items() if a != alpha},
        "target_modules": sorted(parts),
        "use_effective_conv2d": any(key.endswith(("_t1", "_t2")) for key in layout),
    }
    return Translated(config, layout, lambda key: readers[key]())


def _diffusers_alphas(view: AdapterView) -> Callable[[str, int], float]:
    """What diffusers' metadata says of alpha; the rank where it says nothing."""
    try:
        parsed = json.loads(view.config.get("lora_adapter_metadata") or "{}")
    except (ValueError, TypeError, RecursionError):
        parsed = {}

    table = parsed if isinstance(parsed, dict) else {}

    def alpha(name: str, rank: int) -> float:
        part, _, module = name.partition(".")
        patterns = table.get(f"{part}.alpha_pattern")
        known = patterns.items() if isinstance(patterns, dict) else ()
        value = next(
            (a for pattern, a in known if not may_never_end(pattern) and matches(pattern, module)),
            table.get(f"{part}.lora_alpha"),
        )
        return (
            float(value)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
            else float(rank)
        )

    return alpha


def _from_unsloth(view: AdapterView, modules: Iterable[Module]) -> Translated:
    ranks = expert_keys(modules)
    if not ranks:
        raise Unmergeable(
            f"cannot read {view.label} as Unsloth's",
            why="it has no fused experts, so there is nothing to reorder",
            fix="add it without --from",
        )

    def read(key: str) -> Array:
        return peft_order({key: view.read(key)}, ranks)[key] if key in ranks else view.read(key)

    return Translated(view.config, view.header, read)


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def _reader(view: AdapterView, key: str) -> Callable[[], Array]:
    return lambda: view.read(key)


def _shaped(view: AdapterView, key: str, shape: tuple[int, ...]) -> Callable[[], Array]:
    return lambda: view.read(key).reshape(shape)


def _scaled(view: AdapterView, key: str, scale: float) -> Callable[[], Array]:
    def read() -> Array:
        stored = view.read(key)
        return stored if scale == 1 else (stored.astype("float64") * scale).astype(stored.dtype)

    return read


def _constant(view: AdapterView, like: str, value: float) -> Callable[[], Array]:
    import numpy as np

    return lambda: np.asarray(value).astype(view.read(like).dtype)
