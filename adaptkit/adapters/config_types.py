"""The types of the settings in an `adapter_config.json` that more than one part of adaptkit reads, checked once.

They are PEFT's own declarations (`PeftConfig`, `LoraConfig`). A method checks what its own settings may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def check_types(config: Mapping[str, Any], label: str) -> None:
    """Raise `BadConfig` for a setting whose value has another type than PEFT gives it; one that is missing or null passes."""
    for name, (is_right, expected) in _TYPES.items():
        value = config.get(name)
        if value is not None and not is_right(value):
            raise BadConfig(
                f"{label}: {name} is {str(value)[:_SHOWN]!r}",
                why=f"it must be {expected}",
                fix="correct adapter_config.json, or save the adapter again with model.save_pretrained(DIR)",
            )


_SHOWN = 60  # characters of a value that is refused


def _text(value: object) -> bool:
    return isinstance(value, str)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _whole(value: object) -> bool:
    return isinstance(value, list) and all(type(one) is int for one in value)


def _pairs(value: object) -> bool:
    return isinstance(value, list) and all(_whole(one) and len(one) == 2 for one in value)


def _rows(value: object) -> bool:
    tables = value.values() if isinstance(value, dict) else (value,)
    return all(_whole(one) for one in tables)


def _table(value: object) -> bool:
    return isinstance(value, dict)


_TYPES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "peft_type": (_text, "a text, such as LORA"),
    "task_type": (_text, "a text, such as CAUSAL_LM"),
    "base_model_name_or_path": (_text, "a text"),
    "revision": (_text, "a text"),
    "target_modules": (lambda value: _text(value) or _texts(value), "a text or a list of texts"),
    "target_parameters": (_texts, "a list of texts"),
    "modules_to_save": (_texts, "a list of texts"),
    "rank_pattern": (_table, "an object: a pattern and a number each"),
    "alpha_pattern": (_table, "an object: a pattern and a number each"),
    "layer_replication": (_pairs, "a list of pairs of numbers"),
    "trainable_token_indices": (
        _rows,
        "a list of row numbers, or an object with one for each module",
    ),
}
