"""What of an adapter is no sum that can be computed here, and settings that no LoRA can have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadConfig
from adaptkit.extend.module_names import PREFIX, may_never_end
from adaptkit_plugins.methods.lora.experts import undecided
from adaptkit_plugins.methods.lora.files import DIAGONAL, MAGNITUDE, factor_of
from adaptkit_plugins.methods.lora.starts import lost_start

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.extend import AdapterView

_ATTENTION = (
    ".base_layer.out_proj.lora_"  # what only PEFT's layer for torch's MultiheadAttention saves
)

# Flags under which D = s·B·A no longer holds, with the reason as a clause.
_OTHER_MATH: Mapping[str, str] = {
    "use_qalora": "QALoRA pools its input, so its update is not a plain product",
    "use_bdlora": "block-diagonal LoRA shards its factors",
    "alora_invocation_tokens": "activated LoRA works only after its invocation tokens",
    "arrow_config": "Arrow routes between adapters at run time",
    "monteclora_config": "MonteCLoRA samples its factors at run time",
}


def check_settings(view: AdapterView) -> None:
    """`BadConfig` for a rank, an alpha or a pattern of them that is no number, or could take for ever to match."""
    config = view.config
    for field, low in (("r", 1), ("lora_alpha", 0)):
        value = config.get(field)
        if not _at_least(value, low):
            raise BadConfig(
                f"{view.label}: {field} is {value!r}",
                why=f"it must be a number of at least {low}",
                fix="correct adapter_config.json, or train again",
            )
    for field in ("rank_pattern", "alpha_pattern"):
        for pattern, value in (config.get(field) or {}).items():
            if not _at_least(value, 0):
                raise BadConfig(
                    f"{view.label}: {field} gives '{pattern}' the value {value!r}",
                    why="it must be a positive number",
                    fix="correct adapter_config.json",
                )
            if may_never_end(pattern):
                raise BadConfig(
                    f"{view.label}: {field} has the pattern '{pattern[:60]}'",
                    why="matching it could take for ever: it repeats a group, or repeats too often",
                    fix="write the module names out in adapter_config.json",
                )


def other_math(view: AdapterView) -> str:
    """Why D = s·B·A does not hold for an adapter, or is not known, as a clause; empty when it does."""
    config = view.config
    for flag, reason in _OTHER_MATH.items():
        if config.get(flag):
            return reason
    if reason := lost_start(config) or undecided(view):
        return reason
    if attention := next((key for key in view.header if _ATTENTION in key), ""):
        module = attention.removeprefix(PREFIX).partition(_ATTENTION)[0]
        return f"it changes '{module}', a MultiheadAttention of torch, which keeps three projections in one tensor"
    marks = tuple(
        mark
        for flag, mark in (("use_dora", MAGNITUDE), ("kasa_config", DIAGONAL))
        if config.get(flag)
    )
    marks += tuple(f"{mark}.weight" for mark in marks)
    unknown = next(
        (
            key
            for key in view.header
            if ".lora_" in key and not factor_of(key) and not key.endswith(marks or "\0")
        ),
        None,
    )
    return f"it contains the tensor '{unknown}', which is not part of plain LoRA" if unknown else ""


def _at_least(value: Any, low: float) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= low
