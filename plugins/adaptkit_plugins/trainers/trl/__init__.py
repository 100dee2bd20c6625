"""The `trl` trainer: TRL's SFT, DPO, ORPO and KTO trainers, and transformers' own for classes.

https://github.com/huggingface/trl, read at 1.16.

Notable choices:
- rows come as tokens with their loss mask, so TRL's own preparation, which drops rows silently, is left out
- the model is built here, so that the adapter's first weights depend on the job's seed alone
- QLoRA's trainable weights stay float32: TRL 1.16 stores them in bfloat16, and a reload then differs by 0.014
- the saved adapter is loaded again and its logits compared with the trained one's
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from adaptkit.errors import MissingExtra, TrainingError
from adaptkit.extend import Trainer
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend.training import TrainJob, TrainResult, TrainStep

_NEEDED = ("torch", "transformers", "peft", "trl", "datasets", "accelerate")


class Trl(Trainer):
    """TRL and transformers in this process."""

    name: ClassVar[str] = "trl"
    summary: ClassVar[str] = "TRL's trainers: answers, classes, preferences"
    objectives: ClassVar[tuple[str, ...]] = ("sft", "classify", "dpo", "orpo", "kto")

    def check(self, job: TrainJob) -> None:
        """Every library must be there, and what the job asks of the device."""
        from importlib.util import find_spec

        if any(find_spec(name) is None for name in _NEEDED):
            raise MissingExtra("cannot train with trl", "train")
        if job.python is not None:
            raise TrainingError(
                "cannot train with trl in another Python",
                why="it runs in adaptkit's own",
                fix="leave out --trainer-python, or use --trainer unsloth",
            )
        from adaptkit_plugins.trainers.trl.arguments import check_names

        check_names(job)
        if job.bits is not None and find_spec("bitsandbytes") is None:
            raise MissingExtra(f"cannot load {job.base.name} in {job.bits} bits", "qlora")
        if job.options.bf16:
            import torch

            if torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
                raise TrainingError(
                    "cannot train in bf16",
                    why="this GPU has no bfloat16",
                    fix="leave out --bf16",
                )

    def train(self, job: TrainJob, report: Callable[[TrainStep], None]) -> TrainResult:
        if job.launch:
            from adaptkit_plugins.trainers.trl.launch import launched

            return launched(job, report)
        from adaptkit_plugins.trainers.trl.run import run

        return run(job, report)


@hookimpl
def register_trainers(register: Callable[[Trainer], None]) -> None:
    """The trainer of this module."""
    register(Trl())
