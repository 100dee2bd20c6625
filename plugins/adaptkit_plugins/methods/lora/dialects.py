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

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptkit.errors import Unmergeable
from adaptkit.extend import Translated
from adaptkit.extend.module_names import PREFIX
from adaptkit_plugins.methods.lora.experts import expert_keys, peft_order
from adaptkit_plugins.methods.lora.names import (
    COMFY,
    DIFFUSERS,
    KOHYA,
    diffusers_key,
    kohya_key,
    part_named,
)
from adaptkit_plugins.methods.lora.originals import EMBEDDINGS, family_of, from_original
from adaptkit_plugins.methods.lora.tensors import (
    LYCORIS,
    Held,
    as_lycoris,
    as_peft,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from adaptkit.extend import AdapterView, Array, Module

DIALECTS = {
    "kohya": "kohya's sd-scripts: lora_unet_….lora_down.weight with an alpha for each module",
    "diffusers": "diffusers: unet.….lora_A.weight in pytorch_lora_weights.safetensors",
    "comfyui": "ComfyUI and ai-toolkit: diffusion_model.….lora_A.weight for a transformer, kohya's names for a UNet",
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
    if words := next((key for key in view.header if key.startswith(EMBEDDINGS)), ""):
        notes.append(f"'{words}' is left out: a PEFT directory has no place for learned words")
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
        if key.startswith(EMBEDDINGS):
            continue
        kohya = dialect == "kohya" and KOHYA.fullmatch(key) is not None  # some files mix both
        name, what = kohya_key(view, key, notes) if kohya else diffusers_key(key)
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
