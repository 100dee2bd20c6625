"""What PEFT makes of an adapter's names where transformers 5 fuses a model's experts.

On some of these models (Mixtral, Qwen3-MoE, DeepSeek-V3, …) PEFT takes the last parts of names in `target_modules` for
its fused experts: `gate_proj` and `up_proj` become the parameter `gate_up_proj`, whichever layer was meant. A shared
expert's or a dense layer's `gate_proj` gets no update then, without a word. On others (Qwen2-MoE) it does not, and
updates of single experts, as transformers 4 had them, are passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adaptkit.extend.module_names import PREFIX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from adaptkit.bases.architecture import Architecture
    from adaptkit.extend import AdapterMethod, AdapterView

_EXPERT = re.compile(r".+\.experts\.\d+\.(?P<leaf>[^.]+)")
ROUTER = "gate"
PEFT_HEADS: Mapping[str, tuple[str, ...]] = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
"""What PEFT's models of a task add to `modules_to_save`, whatever the adapter says; it takes no other update."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """The last parts of names that PEFT takes for parameters of fused experts; `together` are only taken in full."""

    names: Mapping[str, str] = field(default_factory=dict)
    together: Mapping[str, Collection[str]] = field(default_factory=dict)


def renamed(model_type: str) -> Renamed:
    """What the installed PEFT does for a model; nothing where it has no such table."""
    try:
        from peft.utils import transformers_weight_conversion as peft
    except ImportError:
        return Renamed()
    kind = getattr(peft, "_MODEL_TO_CONVERSION_PATTERN", {}).get(model_type)
    names = getattr(peft, "_MOE_TARGET_MODULE_MAPPING", {}).get(kind) or {}
    together = getattr(peft, "_MOE_FUSED_TARGETS", {}).get(kind) or {}
    return Renamed(names, together) if names and together else Renamed()


def unloaded(
    view: AdapterView, method: AdapterMethod, architecture: Architecture, model_type: str
) -> list[str]:
    """What PEFT would leave out of an adapter, or would not load, in words."""
    config = view.config
    if config.get("peft_type") != "LORA" or not architecture.known:
        return []
    if not any(".experts." in name for name in architecture.parameters):
        return []  # and PEFT, whose table it is, need not be imported
    table, plain = renamed(model_type), [m for m in method.modules(view) if m.kind != "expert"]
    leaves = {module.name.rpartition(".")[2] for module in plain}
    wrong = [
        f"it updates {', '.join(sorted(here))} and not {', '.join(sorted(set(parts) - here))}, which PEFT takes "
        f"together only, as {fused}"
        for fused, parts in table.together.items()
        if (here := leaves.intersection(parts)) and here != set(parts)
    ]
    for module in plain:
        expert, leaf = _EXPERT.fullmatch(module.name), module.name.rpartition(".")[2]
        if expert and not architecture.find(f"{module.name}.weight"):
            if leaf not in table.names:
                wrong.append(
                    f"PEFT passes over '{module.name}': {architecture.name} fuses its experts"
                )
            elif module.saved_rank != config.get("r"):
                wrong.append(
                    f"'{module.name}' has rank {module.saved_rank}, and PEFT, which fuses the experts of "
                    f"{architecture.name}, takes all of them at rank {config.get('r')}"
                )
        elif leaf in table.names and leaf != ROUTER:
            wrong.append(
                f"PEFT passes over '{module.name}': it takes {leaf} for the experts' {table.names[leaf]}"
            )
    return wrong


def modules_of(parameters: Iterable[str]) -> list[str]:
    """Every module that holds parameters of these names, or holds modules that do."""
    found: dict[str, None] = {}
    for name in parameters:
        parts = name.split(".")
        found.update((".".join(parts[:depth]), None) for depth in range(1, len(parts)))
    return list(found)


def saved_whole(entries: Collection[str], modules: Iterable[str]) -> dict[str, str]:
    """The modules that entries of `modules_to_save` mean to PEFT, each with the entry: all whose names end so.

    An end need not begin at a dot: `norm` means `layers.0.input_layernorm` too.
    """
    named, found = set(entries), {}
    for module in modules:
        known = f"{PREFIX}{module}"
        entry = next((known[at:] for at in range(len(known)) if known[at:] in named), None)
        if entry is not None:
            found[module] = entry
    return found


def only_these(wanted: Collection[str], modules: Collection[str]) -> list[str]:
    """Entries of `modules_to_save` that mean these modules and no others."""
    meant = saved_whole(wanted, modules)
    broad = {entry for module, entry in meant.items() if module not in set(wanted)}
    broad |= {meant[module] for module in wanted if module in meant and meant[module] != module}
    return [f"{PREFIX}{name}" if name in broad else name for name in wanted]
