"""A training configuration in PEFT's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.errors import NotFound, TrainingError
from adaptkit.training.settings.targets import ALL_LINEAR, targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.training.settings.config import TrainConfig

_FIELDS = {
    "rank": ("r", "rank"),
    "alpha": ("lora_alpha", "alpha"),
    "dropout": ("lora_dropout", "module_dropout"),
}
_LORA_LIKE = {"lora", "qlora", "dora"}


def peft_config(
    config: TrainConfig, objective: str, shapes: Mapping[str, tuple[int, ...]] | None
) -> dict[str, Any]:
    """The fields of PEFT's own configuration class, each only where the class has it."""
    from dataclasses import fields

    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kind = "lora" if config.method in _LORA_LIKE else config.method.lower().replace("-", "_")
    known = {str(one.value).lower(): one for one in PeftType if one in PEFT_TYPE_TO_CONFIG_MAPPING}
    if kind not in known:
        raise NotFound("method", config.method, [*known, "qlora", "dora"])
    has = {field.name: field.type for field in fields(PEFT_TYPE_TO_CONFIG_MAPPING[known[kind]])}
    made: dict[str, Any] = {
        "peft_type": str(known[kind].value),
        "task_type": "SEQ_CLS" if objective == "classify" else "CAUSAL_LM",
        "base_model_name_or_path": config.base,
    }
    for name, theirs in _FIELDS.items():
        field = next((one for one in theirs if one in has), None)
        value = getattr(config, name)
        if name == "alpha" and value is None:
            value = 2 * config.rank
        if field is not None:
            made[field] = int(value) if field == "lora_alpha" and value == int(value) else value
        elif value != type(config).__dataclass_fields__[name].default and getattr(config, name):
            _has_no(config.method, name)
    if "target_modules" in has:
        chosen = targets(config.target_modules, shapes)
        if chosen is None and kind == "lora":
            chosen = (
                ALL_LINEAR  # as in QLoRA's paper, arXiv 2305.14314: all layers, not only q and v
            )
        if chosen is not None:
            made["target_modules"] = chosen
    elif config.target_modules != "auto":
        _has_no(config.method, "target_modules")
    for option, asked, field, value in (
        ("rslora", config.rslora, "use_rslora", True),
        ("dora", config.dora or config.method == "dora", "use_dora", True),
        ("init", config.init, "init_lora_weights", config.init),
    ):
        if asked and field not in has:
            _has_no(config.method, option)
        elif asked:
            made[field] = value
    return made | _settings(config.set, has, config.method)


def _settings(texts: Sequence[str], has: Mapping[str, Any], method: str) -> dict[str, Any]:
    from adaptkit.io import yaml_text

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise TrainingError(
                f"cannot set '{text}'",
                why="it is FIELD=VALUE",
                fix="for example: --set use_rslora=true",
            )
        if name not in has:
            raise NotFound(f"field of the method {method}", name, has)
        try:
            read = yaml_text.load(value)
        except yaml_text.BadYaml as error:
            raise TrainingError(f"cannot set '{text}'", why=error.why) from error
        found[name] = _fitting(read, has[name], text)
    return found


def _fitting(value: Any, kind: Any, text: str) -> Any:
    """A value for a field of PEFT's: one name where it takes a list of names is a list of one; a word is no number."""
    called = kind.__name__ if isinstance(kind, type) else str(kind)
    if not isinstance(value, str):
        return value
    if "list[str]" in called and "str" not in called.replace("list[str]", ""):
        return [part.strip() for part in value.split(",")]
    if called in {"int", "float", "bool"}:
        wanted = {"int": "a whole number", "float": "a number", "bool": "true or false"}[called]
        raise TrainingError(
            f"cannot set '{text}'",
            why=f"it takes {wanted}",
            fix="look the field up in PEFT's documentation",
        )
    return value


def _has_no(method: str, name: str) -> None:
    raise TrainingError(
        f"the method {method} has no {name.replace('_', ' ')}",
        why="PEFT's configuration of it knows no such field",
        fix=f"leave out --{name.replace('_', '-')}",
    )
