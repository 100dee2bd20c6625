"""The configuration of a merge: what one LoraConfig can say of several adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.errors import ExtrasConflict
from adaptkit_plugins.methods.lora.experts import common_targets, pattern_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from adaptkit.extend import AdapterView, Module


def config_of_merge(
    views: Sequence[AdapterView],
    parts: Sequence[Module],
    kept: Collection[str],
    settings: Mapping[str, Any],
    *,
    bias: bool,
) -> dict[str, Any]:
    """What PEFT needs to load these modules, and what of the adapters goes along with them."""
    _check_whole(views, parts, bias)
    ranks = {part.name: (part.saved_rank, part) for part in parts}
    top = max(rank for rank, _ in ranks.values())
    others = {pattern_of(part): rank for _, (rank, part) in sorted(ranks.items()) if rank != top}
    saved = {module for view in views for module in view.config.get("modules_to_save") or ()}
    biases = {str(view.config.get("bias") or "none") for view in views} - {"none"}
    return {
        **settings,
        "peft_type": "LORA",
        "base_model_name_or_path": views[0].config.get("base_model_name_or_path"),
        "inference_mode": True,
        "r": top,
        "lora_alpha": top,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted(
            name for name, (_, part) in ranks.items() if part.kind != "expert"
        ),
        "target_parameters": common_targets(views),
        "modules_to_save": sorted(m for m in saved if any(f".{m}." in f".{k}" for k in kept))
        or None,
        "layer_replication": views[0].config.get("layer_replication"),
        "fan_in_fan_out": any(view.config.get("fan_in_fan_out") for view in views),
        "lora_bias": bias,
        "bias": ("all" if len(biases) > 1 else biases.pop())
        if biases and any(k.endswith(".bias") for k in kept)
        else "none",
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
    }


def _check_whole(views: Sequence[AdapterView], parts: Sequence[Module], bias: bool) -> None:
    """Refuse what one LoraConfig cannot say."""
    if bias and any(part.kind == "embedding" for part in parts):
        raise ExtrasConflict(
            "cannot merge an adapter with lora_bias and one on an embedding",
            why="PEFT has no lora_bias on embeddings, and the flag is for the whole adapter",
            fix="merge them apart, or train one of them without lora_bias",
        )
    plans = [(view.label, view.config.get("layer_replication")) for view in views]
    if any(plan != plans[0][1] for _, plan in plans):
        raise ExtrasConflict(
            "the adapters disagree about layer_replication",
            why="; ".join(f"{label} says {plan!r}" for label, plan in plans),
            fix="merge adapters that were trained on the same layers",
        )
