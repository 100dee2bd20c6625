"""LoRA as other tools write it: kohya's scripts, diffusers, and Unsloth's experts.

Notable choices:
- kohya's names have underscores for dots. With the base at hand its own names decide; else a list
  of the words that hold underscores themselves (`to_q`, `down_blocks`). Going back is exact in any
  case.
- a missing alpha means alpha = rank, as both tools read it
- a file for kohya has one alpha throughout, other scales going into lora_up: diffusers' reader
  loses alphas that differ
- modules keep the name of their part of the pipeline (`unet.`, `text_encoder.`), which is how
  diffusers names them
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadWeights, Unmergeable
from adaptkit.extend import Translated
from adaptkit.extend.module_names import PREFIX, matches, may_never_end
from adaptkit.types import TensorInfo
from adaptkit_plugins.methods.lora.experts import expert_keys, peft_order
from adaptkit_plugins.methods.lora.files import MAGNITUDE, scale_of, stem_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from adaptkit.extend import AdapterView, Array, Module

DIALECTS = {
    "kohya": "kohya's sd-scripts: lora_unet_….lora_down.weight with an alpha for each module",
    "diffusers": "diffusers: unet.….lora_A.weight in pytorch_lora_weights.safetensors",
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
    rf"(?P<module>(?:{'|'.join(_PARTS)})\..+?)(?:\.lora_linear_layer|\.lora)?\."
    r"(?P<what>lora_A\.weight|lora_B\.weight|lora_magnitude_vector|down\.weight|up\.weight|alpha)"
)
_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora$")
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
    ),
}
_WORDS = frozenset(
    """down_blocks up_blocks mid_block transformer_blocks single_transformer_blocks double_blocks single_blocks
    input_blocks output_blocks middle_block to_q to_k to_v to_out to_add_out add_q_proj add_k_proj add_v_proj to_qkv
    proj_in proj_out proj_mlp ff_context time_emb_proj time_embedding time_text_embed context_embedder x_embedder
    linear_1 linear_2 conv_shortcut conv_in conv_out conv_norm_out text_model self_attn q_proj k_proj v_proj out_proj o_proj up_proj
    gate_proj down_proj token_embedding position_embedding layer_norm1 layer_norm2 final_layer_norm img_attn txt_attn
    img_mlp txt_mlp img_mod txt_mod in_layers out_layers emb_layers skip_connection norm_out add_embedding text_projection
    time_embed label_emb""".split()
)
_LONGEST = max(word.count("_") for word in _WORDS) + 1


def dialect_of(view: AdapterView) -> str:
    """Which tool wrote a file of weights without a configuration; empty when none of these."""
    if any(_KOHYA.fullmatch(key) for key in view.header):
        return "kohya"
    return "diffusers" if any(_DIFFUSERS.fullmatch(key) for key in view.header) else ""


def translated(
    dialect: str, view: AdapterView, modules: Callable[[], Iterable[Module]]
) -> Translated:
    """The adapter as PEFT would have saved it."""
    if dialect == "unsloth":
        return _from_unsloth(view, modules())
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    unknown = []
    for key in view.header:
        name, what = _kohya_key(view, key) if dialect == "kohya" else _diffusers_key(key)
        if what not in {"A", "B", "alpha", "magnitude"}:
            unknown.append(key)
            continue
        parts[name][what] = key
    if unknown:
        raise Unmergeable(
            f"cannot read {view.label} as LoRA of {dialect}",
            why=f"it contains '{unknown[0]}'"
            + (
                f" and {len(unknown) - 1} more that are not part of LoRA"
                if len(unknown) > 1
                else ", which is not part of LoRA"
            ),
            fix="LyCORIS files (hada_, lokr_) are read as PEFT writes them",
        )
    return _as_peft(view, parts)


def written(dialect: str, view: AdapterView, modules: Sequence[Module]) -> Translated:
    """The adapter as another tool reads it; what that tool has no place for is refused."""
    if dialect == "unsloth":
        raise Unmergeable(
            "unsloth is only read",
            why="Unsloth reads what PEFT writes",
            fix="adaptkit export REF --out DIR",
        )
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


def _kohya_key(view: AdapterView, key: str) -> tuple[str, str]:
    match = _KOHYA.fullmatch(key)
    if not match:
        return key, ""
    part = next(
        (name for name, prefix in _PARTS.items() if match["part"] == prefix), "text_encoder"
    )
    what = {
        "lora_down.weight": "A",
        "lora_up.weight": "B",
        "alpha": "alpha",
        "dora_scale": "magnitude",
    }.get(match["what"], "")
    return f"{part}.{_dotted(match['flat'], view.base_shapes)}", what


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
    old = _PROCESSOR.search(match["module"])
    module = (
        _PROCESSOR.sub(lambda m: f".{m[1]}.0" if m[1] == "to_out" else f".{m[1]}", match["module"])
        if old
        else match["module"]
    )
    return module, what


def _dotted(flat: str, known: Mapping[str, Any] | None) -> str:
    """The module that kohya's flat name means."""
    for name in known or ():
        module = name.rpartition(".")[0]
        if module.replace(".", "_") == flat:
            return module
    words, at, found = flat.split("_"), 0, []
    while at < len(words):
        length = next(
            (n for n in range(_LONGEST, 1, -1) if "_".join(words[at : at + n]) in _WORDS), 1
        )
        found.append("_".join(words[at : at + length]))
        at += length
    return ".".join(found)


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
    declared_alpha = _diffusers_alphas(view)
    for name, keys in sorted(parts.items()):
        if missing := {"A", "B"} - keys.keys():
            raise BadWeights(
                f"{view.label}: '{name}' has no lora_{missing.pop()}",
                why="a factor pair is incomplete",
                fix="save the adapter again",
            )
        ranks[name] = view.header[keys["A"]].shape[0]
        alphas[name] = (
            float(view.read(keys["alpha"]).reshape(-1)[0])
            if "alpha" in keys
            else declared_alpha(name, ranks[name])
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


def _diffusers_alphas(view: AdapterView) -> Callable[[str, int], float]:
    """What diffusers' metadata says of alpha; the rank where it says nothing."""
    try:
        metadata = json.loads(view.config.get("lora_adapter_metadata") or "{}")
    except (ValueError, TypeError, RecursionError):
        metadata = {}

    table = metadata if isinstance(metadata, dict) else {}

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
