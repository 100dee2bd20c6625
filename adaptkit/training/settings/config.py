"""`TrainConfig`: every setting of a training run, under one name in Python, YAML and on the command line.

Every field carries its help; the options of `adaptkit train`, the keys of train.yaml and the command that
`show --recipe` gives back all come from here.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from adaptkit.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _option(default: Any, help_text: str, metavar: str = "") -> Any:
    return field(default=default, metadata={"help": help_text, "metavar": metavar})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training run. A field that is None or empty is chosen for you."""

    base: str = _option("", "The base model: a folder, or hf://OWNER/MODEL.", "BASE")
    data: tuple[str, ...] = _option((), "Rows to learn from; may be repeated.", "FILE")
    name: str = _option("", "Register the result as the next version of this name.", "NAME")
    columns: tuple[str, ...] = _option((), "Your own column names.", "FIELD=COLUMN,…")
    skip_bad: bool = _option(False, "Pass over broken lines and count them.")
    eval_data: tuple[str, ...] = _option((), "Rows to measure the loss on.", "FILE")
    eval_split: float = _option(0.0, "Hold back this share of the rows for it.")
    replay: tuple[str, ...] = _option((), "Older rows to mix in, against forgetting.", "FILE")
    replay_ratio: float = _option(0.1, "Their share of all rows.")
    replay_from_base: int = _option(0, "Mix in N rows that the base itself writes.", "N")
    method: str = _option("lora", "lora, qlora, or any PEFT type: dora, ia3, loha, vera, …")
    rank: int = _option(8, "The adapter's rank.")
    alpha: float | None = _option(None, "LoRA's alpha; 2 × rank by default.")
    target_modules: str = _option("auto", "auto, all-linear, names, or a regex.", "MODULES,…")
    dropout: float = _option(0.0, "Dropout on the adapter's input.")
    rslora: bool = _option(False, "Scale by alpha / √rank.")
    dora: bool = _option(False, "Weight-decomposed LoRA.")
    init: str = _option("", "How LoRA starts: gaussian, pissa, olora, … as PEFT names it.")
    set: tuple[str, ...] = _option((), "Any other field of PEFT's configuration.", "FIELD=VALUE")
    orthogonal_to: tuple[str, ...] = _option((), "Start A apart from these adapters'.", "REF")
    task: str = _option("auto", "auto, answers, classes, dpo, orpo or kto.")
    steps: int | None = _option(None, "Optimiser steps, instead of --epochs.")
    epochs: float = _option(3.0, "Passes over the rows.")
    lr: float | None = _option(None, "Learning rate; 2e-4, or 5e-6 for preferences.")
    schedule: str = _option("cosine", "How it falls: cosine, linear, constant_with_warmup, …")
    warmup: float = _option(0.03, "Warm-up: steps, or a share of them below 1.")
    batch: int = _option(8, "Rows in a batch on each device.")
    accumulate: int = _option(1, "Batches in a step.")
    length: int = _option(1024, "Tokens of the longest row; longer ones are cut and counted.")
    packing: bool = _option(False, "Several rows in one sequence.")
    completion_only: bool = _option(True, "Count the answers only in the loss.")
    chat_template: str = _option("", "chatml, or a Jinja file, for a base without one.", "FILE")
    bf16: bool | None = _option(None, "Compute in bfloat16; where the GPU has it by default.")
    gradient_checkpointing: bool = _option(False, "Less memory for more time.")
    neftune: float | None = _option(None, "Noise on the embeddings (arXiv 2310.05914).")
    weight_decay: float = _option(0.0, "AdamW's.")
    clip: float = _option(1.0, "The largest norm of the gradient.")
    optimizer: str | None = _option(None, "As transformers names it; adamw_torch by default.")
    beta: float | None = _option(None, "Of DPO, ORPO and KTO.")
    eval_every: int | None = _option(None, "Steps between two evaluations.")
    early_stopping: int | None = _option(None, "Stop after N evaluations without a gain.", "N")
    save_every: int | None = _option(None, "Steps between two checkpoints.")
    seed: int | None = _option(None, "Derived from the name by default.")
    report_to: tuple[str, ...] = _option((), "tensorboard, wandb, trackio, …", "TOOL")
    trainer: str = _option("trl", "Which trainer plugin runs it.")
    launch: str = _option("", "Start a process for each device by this command.", "COMMAND")
    trainer_python: str = _option("", "The Python of a trainer's own environment.", "PATH")

    def __post_init__(self) -> None:
        for given in fields(self):
            value = getattr(self, given.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise TrainingError(
                    f"{_flag(given.name)} {value:g} makes no sense",
                    why="it is a finite number",
                    fix=f"leave out {_flag(given.name)} for the default",
                )
        for name, low in _AT_LEAST.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise TrainingError(
                    f"{_flag(name)} {str(value)[:30]} makes no sense",
                    why=f"it is at least {low:g}",
                    fix=f"for example: {_flag(name)} {max(low, 1):g}",
                )
        for name, high in _AT_MOST.items():
            value = getattr(self, name)
            if value is not None and value > high:
                raise TrainingError(
                    f"{_flag(name)} {str(value)[:30]} makes no sense",
                    why=f"it is at most {high:,}"
                    if isinstance(high, int)
                    else f"it is at most {high:g}",
                    fix=f"leave out {_flag(name)} for the default",
                )
        for name in _SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise TrainingError(
                    f"{_flag(name)} {getattr(self, name):g} makes no sense",
                    why="it is a share, from 0 to below 1",
                    fix=f"for example: {_flag(name)} 0.1",
                )
        if self.early_stopping and not (self.eval_data or self.eval_split):
            raise TrainingError(
                "cannot stop early",
                why="there is nothing to measure the loss on",
                fix="add --eval-split 0.1, or --eval-data FILE",
            )

    def changed(self) -> dict[str, Any]:
        """The fields that differ from their defaults: what is recorded, and what makes two runs the same."""
        return {
            f.name: list(value) if isinstance(value, tuple) else value
            for f in fields(self)
            if (value := getattr(self, f.name)) != f.default
        }


_AT_LEAST = {
    "rank": 1,
    "steps": 1,
    "epochs": 0.0001,
    "lr": 0,
    "batch": 1,
    "accumulate": 1,
    "length": 2,
    "warmup": 0,
    "replay_from_base": 0,
    "eval_every": 1,
    "save_every": 1,
    "early_stopping": 1,
    "seed": 0,
    "alpha": 0.0001,
    "neftune": 0,
    "weight_decay": 0,
    "clip": 0,
    "beta": 0,
}
_AT_MOST = {
    "lr": 1e30,  # float32 ends at 3e38
    "seed": 2**32 - 1,  # numpy's
    "rank": 1 << 20,
    "steps": 1 << 40,
    "length": 1 << 30,
    "batch": 1 << 30,
    "accumulate": 1 << 30,
    "replay_from_base": 1 << 30,
    "eval_every": 1 << 40,
    "save_every": 1 << 40,
    "early_stopping": 1 << 40,
}
_SHARES = ("eval_split", "replay_ratio", "dropout")
TYPES: Mapping[str, Any] = get_type_hints(TrainConfig)
"""The type of each field."""

# What axolotl (docs.axolotl.ai) and LLaMA-Factory (its examples/*.yaml) call the same things.
SYNONYMS = {
    "base_model": "base",
    "model_name_or_path": "base",
    "datasets": "data",
    "dataset": "data",
    "adapter": "method",
    "finetuning_type": "method",
    "lora_r": "rank",
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "lora_target_modules": "target_modules",
    "lora_target": "target_modules",
    "peft_use_rslora": "rslora",
    "use_rslora": "rslora",
    "peft_use_dora": "dora",
    "use_dora": "dora",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "learning_rate": "lr",
    "lr_scheduler": "schedule",
    "lr_scheduler_type": "schedule",
    "warmup_steps": "warmup",
    "warmup_ratio": "warmup",
    "micro_batch_size": "batch",
    "per_device_train_batch_size": "batch",
    "gradient_accumulation_steps": "accumulate",
    "sequence_len": "length",
    "cutoff_len": "length",
    "sample_packing": "packing",
    "val_set_size": "eval_split",
    "val_size": "eval_split",
    "eval_dataset": "eval_data",
    "eval_steps": "eval_every",
    "save_steps": "save_every",
    "early_stopping_patience": "early_stopping",
    "neftune_noise_alpha": "neftune",
    "max_grad_norm": "clip",
    "optim": "optimizer",
    "pref_beta": "beta",
}


def from_mapping(values: Mapping[str, Any], place: Callable[[str], str]) -> dict[str, Any]:
    """The fields that a file's keys mean, with values of the right type; every unknown key is an error.

    `place` is what errors call the place of a key.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = SYNONYMS.get(str(key), str(key).replace("-", "_"))
        if name not in TYPES:
            from adaptkit.errors import nearest

            near = ", ".join(nearest(name, [*TYPES, *SYNONYMS], show=3)[:3])
            raise TrainingError(
                f"{place(key)}: unknown key '{key}'",
                why="adaptkit knows none of that name",
                fix=f"nearest are: {near}",
            )
        if name in found:
            raise TrainingError(
                f"{place(key)}: {name} is given twice",
                why=f"once as '{key}'",
                fix="keep one of the two",
            )
        if value is not None:
            found[name] = coerce(name, value, place(key))
    return found


def coerce(name: str, value: Any, label: str) -> Any:
    """A value of a YAML file as the field's type."""
    wanted = TYPES[name]
    options = getattr(wanted, "__args__", (wanted,)) if "|" in str(wanted) else (wanted,)
    if wanted == tuple[str, ...]:
        items = value if isinstance(value, list) else [value]
        if name == "data":
            items = [item.get("path") if isinstance(item, dict) else item for item in items]
        if all(isinstance(item, str) for item in items):
            return tuple(items)
    elif name == "target_modules" and isinstance(value, list):
        return ",".join(map(str, value))
    elif name == "target_modules" and value == "all":
        return "all-linear"
    elif bool in options and isinstance(value, bool):
        return value
    elif bool in options and value == "auto":
        return None if type(None) in options else True
    elif isinstance(value, str) and str in options:
        return value
    elif isinstance(value, int | float | str) and not isinstance(value, bool):
        for kind in (int, float):
            if kind in options:
                try:
                    number = kind(value)
                except ValueError:
                    break
                if number == float(value):
                    return number
    raise TrainingError(
        f"{label}: {name} is {value!r}",
        why=f"it takes {_called(wanted)}",
        fix="see adaptkit train --help",
    )


def read_file(path: Path) -> dict[str, Any]:
    """The fields that a train.yaml gives; relative paths in it are relative to it."""
    from adaptkit.io import yaml_text

    try:
        text = yaml_text.read(path)
    except yaml_text.BadYaml as error:
        raise TrainingError(
            f"cannot read {path}{error.at}", why=error.why, fix="check its indentation"
        ) from error
    if not isinstance(text.value, dict):
        raise TrainingError(f"cannot read {path}", why="it holds no keys", fix="write rank: 8")
    found = from_mapping(text.value, lambda key: f"{path}, line {text.line(key)}")
    for name in ("data", "eval_data", "replay"):
        if name in found:
            found[name] = tuple(_beside(path, item) for item in found[name])
    return found


def command(values: Mapping[str, Any]) -> str:
    """The `adaptkit train` line that a recorded configuration came from."""
    words = ["adaptkit", "train"]
    for name, value in values.items():
        if name not in TYPES:
            continue
        match value:
            case True:
                words.append(_flag(name))
            case False:
                words.append(_flag(f"no_{name}"))
            case list() | tuple():
                words += [word for item in value for word in (_flag(name), str(item))]
            case float():
                words += [_flag(name), f"{value:g}"]
            case _:
                words += [_flag(name), str(value)]
    return shlex.join(words)


def _beside(path: Path, item: str) -> str:
    return item if Path(item).is_absolute() or "://" in item else str(path.parent / item)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _called(wanted: Any) -> str:
    names = {
        str: "a text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        tuple[str, ...]: "a list of texts",
    }
    options = getattr(wanted, "__args__", (wanted,)) if "|" in str(wanted) else (wanted,)
    return " or ".join(names[o] for o in options if o is not type(None))
