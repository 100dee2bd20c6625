"""`Trainer`: runs one training job, and the values that pass between it and the core."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to optimise. Times are counted in optimiser steps."""

    seed: int
    steps: int | None = None
    epochs: float = 3.0
    lr: float = 2e-4
    schedule: str = "cosine"
    warmup: float = 0.03
    batch: int = 8
    accumulate: int = 1
    length: int = 1024
    packing: bool = False
    bf16: bool | None = None
    gradient_checkpointing: bool = False
    neftune: float | None = None
    weight_decay: float = 0.0
    clip: float = 1.0
    optimizer: str | None = None
    beta: float | None = None
    eval_every: int | None = None
    early_stopping: int | None = None
    save_every: int | None = None
    report_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainJob:
    """Everything a trainer needs; the same job gives the same adapter on one machine.

    `objective` is sft, classify, dpo, orpo or kto. `rows` is an Arrow stream: of sft `input_ids` and `labels` (-100
    where a token does not count), already cut, in the order of the files; of classify `input_ids` and `label`; else
    `prompt`, `chosen` and `rejected`, or `prompt`, `completion` and `label`. `peft` is a PEFT configuration with
    peft_type and task_type. `start` maps each module to the A it starts from, in a safetensors file. `python` is that
    of an environment of the trainer's own, `launch` the command that starts one process for each device.
    """

    base: Path
    objective: str
    peft: Mapping[str, Any]
    rows: Path
    folder: Path
    options: TrainOptions
    eval_rows: Path | None = None
    bits: int | None = None
    classes: tuple[str, ...] = ()
    chat_template: str = ""
    start: Path | None = None
    checkpoint: Path | None = None
    python: Path | None = None
    launch: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The job for a process of its own; paths as texts."""
        data = asdict(self)
        return {
            key: str(value) if isinstance(value, Path) else value for key, value in data.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainJob:
        """The way back from `to_json`."""
        options = dict(data["options"])
        options["report_to"] = tuple(options["report_to"])
        paths = {key: Path(data[key]) for key in _PATHS if data[key] is not None}
        rest = {"classes": tuple(data["classes"]), "launch": tuple(data["launch"])}
        return cls(**{**data, **paths, **rest, "options": TrainOptions(**options)})


_PATHS = ("base", "rows", "folder", "eval_rows", "start", "checkpoint", "python")


@dataclass(frozen=True, slots=True)
class TrainStep:
    """Progress after one logged step; `eval_loss` where it was measured, `loss` None then."""

    step: int
    steps: int
    loss: float | None
    lr: float | None = None
    rows_per_second: float | None = None
    seconds_left: float | None = None
    eval_loss: float | None = None


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What came out: the adapter's folder, and what the guards look at.

    `first_step` is the step that a resumed run went on from. `moved` of `tensors` trained tensors differ from what
    they started as; `apart` is how far the saved adapter's logits are from the trained one's, where that was measured.
    """

    adapter: Path
    steps: int
    losses: tuple[tuple[int, float], ...]
    moved: int
    tensors: int
    first_step: int = 0
    interrupted: bool = False
    apart: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: int = 0
    peak_memory: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    bits: int | None = None


class Trainer(ABC):
    """Runs a training job."""

    name: ClassVar[str]
    """The name in `--trainer`."""
    summary: ClassVar[str] = ""
    """One line for `adaptkit plugins`."""
    objectives: ClassVar[tuple[str, ...]] = ("sft",)
    """What it can train: sft, classify, dpo, orpo, kto."""

    @abstractmethod
    def train(self, job: TrainJob, report: Callable[[TrainStep], None]) -> TrainResult:
        """Train, with checkpoints under `job.folder`, and save the adapter there as PEFT does.

        Ctrl-C finishes the step, saves a checkpoint and returns with `interrupted`. Raises `TrainingError`.
        """

    def check(self, job: TrainJob) -> None:
        """Raise before any work when the job cannot be done here: `MissingExtra`, `TrainingError`."""
        return
