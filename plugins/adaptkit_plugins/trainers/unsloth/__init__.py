"""The `unsloth` trainer: Unsloth in an environment of its own, since its pins clash with ours.

https://github.com/unslothai/unsloth, read at 2026.10: it pins datasets<5, trl≤1.15, transformers≤5.17, torch<2.15.
A process of its own also keeps its AGPL part apart. `worker.py` beside this file runs there and needs nothing of
adaptkit.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from adaptkit.errors import TrainingError
from adaptkit.extend import Trainer
from adaptkit.extend.training.process import run_worker
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from adaptkit.extend.training import TrainJob, TrainResult, TrainStep

_WORKER = Path(__file__).parent / "worker.py"
_QUIET = {"UNSLOTH_DISABLE_STATISTICS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_FIX = (
    "make an environment with `pip install unsloth` (docs/training.md) and give its Python: "
    "--trainer-python ~/unsloth/bin/python; or --trainer trl"
)
_PEFT = {
    "peft_type",
    "task_type",
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "lora_dropout",
    "bias",
    "target_modules",
    "use_rslora",
    "modules_to_save",
    "init_lora_weights",
    "layers_to_transform",
    "layers_pattern",
    "loftq_config",
}
"""What Unsloth's own `get_peft_model` takes."""
_PATIENCE = 300  # seconds for an import that compiles


class Unsloth(Trainer):
    """LoRA on answers, by Unsloth's own kernels."""

    name: ClassVar[str] = "unsloth"
    summary: ClassVar[str] = "Unsloth, in an environment of its own (--trainer-python)"
    objectives: ClassVar[tuple[str, ...]] = ("sft",)

    def check(self, job: TrainJob) -> None:
        """Its Python must be given and must find unsloth; the method must be LoRA."""
        if job.python is None:
            raise TrainingError(
                "cannot train with unsloth",
                why="it runs in an environment of its own, and no Python of one is given",
                fix=_FIX,
            )
        if job.peft["peft_type"] != "LORA" or job.start is not None:
            raise TrainingError(
                "unsloth cannot train this",
                why="it trains LoRA from its own start",
                fix="--trainer trl",
            )
        options = {"packing": job.options.packing, "launch": job.launch}
        _refuse({*(job.peft.keys() - _PEFT), *(name for name, value in options.items() if value)})
        code = "import importlib.util as u, sys; sys.exit(u.find_spec('unsloth') is None)"
        try:
            found = subprocess.run(
                [job.python, "-c", code], capture_output=True, check=False, timeout=_PATIENCE
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            why = (
                getattr(error, "strerror", None) or f"it did not answer within {_PATIENCE} seconds"
            )
            raise TrainingError(f"cannot start {job.python}", why=why, fix=_FIX) from error
        if found.returncode:
            raise TrainingError(
                f"{job.python} has no unsloth", why="it finds no such package", fix=_FIX
            )

    def train(self, job: TrainJob, report: Callable[[TrainStep], None]) -> TrainResult:
        if job.eval_rows:
            _refuse({"evaluation rows"})
        return run_worker([str(job.python), str(_WORKER)], job, report, _QUIET, fix=_FIX)


def _refuse(settings: Collection[str]) -> None:
    """`TrainingError` names settings that would be passed over in silence."""
    if settings:
        raise TrainingError(
            "unsloth cannot train this",
            why=f"adaptkit does not pass {', '.join(sorted(settings)).replace('_', ' ')} on to it",
            fix="--trainer trl, or leave it out",
        )


@hookimpl
def register_trainers(register: Callable[[Trainer], None]) -> None:
    """The trainer of this module."""
    register(Unsloth())
