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

import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptkit.errors import Unmergeable
from adaptkit.extend import Translated
from adaptkit.extend.module_names import PREFIX
from adaptkit.types import TensorInfo
from adaptkit_plugins.methods.lora.experts import expert_keys, peft_order
from adaptkit_plugins.methods.lora.files import MAGNITUDE, scale_of, stem_of
from adaptkit_plugins.methods.lora.names import (
    COMFY,
    DIFFUSERS,
    KOHYA,
    PARTS,
    check_names,
    diffusers_key,
    kohya_key,
    part_named,
    part_of,
)
from adaptkit_plugins.methods.lora.originals import family_of, from_original
from adaptkit_plugins.methods.lora.tensors import (
    LYCORIS,
    Held,
    as_lycoris,
    as_peft,
    constant,
    count,
    reader,
    scaled,
    shaped,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from adaptkit.extend import AdapterView, Array, Module

DIALECTS = {
    "kohya": "kohya's sd-scripts: lora_unet_….lora_down.weight with an alpha for each module",
    "diffusers": "diffusers: unet.….lora_A.weight in pytorch_lora_weights.safetensors",
    "comfyui": "ComfyUI and ai-toolkit: diffusion_model.….lora_A.weight, the original model's names; read only",
    "unsloth": "a PEFT directory whose experts Unsloth ordered expert-slowest (before September 2026); read only",
}


def dialect_of(view: AdapterView) -> str:
    """Which tool wrote a file of weights without a configuration; empty when none of these."""
    if any(KOHYA.fullmatch(key) for key in view.header):
        return "kohya"
    if any(key.startswith(COMFY) for key in view.header):
        return "comfyui"
    if any(key.startswith(PREFIX) for key in view.header):
        return ""
    known = (match for key in view.header if (match := DIFFUSERS.fullmatch(key)))
    return "diffusers" if any(part_named(match["module"]) for match in known) else ""


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
            view, dialect = Held(view, arrays), "diffusers"
            notes.append(
                f"its names were those of the original {model}; diffusers' converter translated them"
            )
        else:
            notes.append(f"it keeps the names of the original {model}: {reason}")
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    odd = []
    for key in view.header:
        name, what = kohya_key(view, key, notes) if dialect == "kohya" else diffusers_key(key)
        if what not in {"A", "B", "alpha", "magnitude", "mid"} and not LYCORIS.fullmatch(what):
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
    lycoris = {what[:4] for keys in parts.values() for what in keys if LYCORIS.fullmatch(what)}
    made = as_lycoris(view, parts, lycoris) if lycoris else as_peft(view, parts)
    return replace(made, notes=tuple(dict.fromkeys(notes)))


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
        check_names(view, modules)
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
        part, name = part_of(view, module.name)
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
            prefix = "lora_te" if part == "text_encoder" and not both else PARTS[part]
            flat = f"{prefix}_{name.replace('.', '_')}"
            info = view.header[keys["A"]]
            tensors[f"{flat}.alpha"] = (
                TensorInfo(info.dtype, (), info.nbytes // max(1, count(info.shape))),
                constant(view, keys["A"], alpha),
            )
            tensors[f"{flat}.lora_down.weight"] = (view.header[keys["A"]], reader(view, keys["A"]))
            tensors[f"{flat}.lora_up.weight"] = (
                view.header[keys["B"]],
                scaled(view, keys["B"], alphas[module.name] / alpha),
            )
            if mark:
                info = view.header[mark]
                tensors[f"{flat}.dora_scale"] = (
                    TensorInfo(info.dtype, (count(info.shape), 1), info.nbytes),
                    shaped(view, mark, (-1, 1)),
                )
        else:
            full = f"{part}.{name}"
            tensors[f"{full}.lora_A.weight"] = (view.header[keys["A"]], reader(view, keys["A"]))
            tensors[f"{full}.lora_B.weight"] = (
                view.header[keys["B"]],
                scaled(view, keys["B"], scale),
            )
            if mark:
                tensors[f"{full}.lora_magnitude_vector"] = (view.header[mark], reader(view, mark))
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
