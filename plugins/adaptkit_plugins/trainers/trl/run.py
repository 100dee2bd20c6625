"""One job from the loaded base to the saved adapter."""

from __future__ import annotations

import resource
import shutil
import sys
import warnings
from contextlib import redirect_stdout
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from adaptkit.errors import TrainingError
from adaptkit.extend.artifact_files import CONFIG, WEIGHTS
from adaptkit.extend.training import TrainResult
from adaptkit.io.machine.libraries import quiet_libraries
from adaptkit_plugins.trainers.trl import arguments, model
from adaptkit_plugins.trainers.trl.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from adaptkit.extend.training import TrainJob, TrainStep

_VERSIONS = ("torch", "transformers", "peft", "trl", "datasets", "accelerate")


def run(job: TrainJob, report: Callable[[TrainStep], None]) -> TrainResult:
    """Train and save; what libraries print goes to stderr."""
    from datasets import disable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    disable_progress_bars()
    with redirect_stdout(sys.stderr), warnings.catch_warnings(), quiet_libraries():
        # what these libraries rename among themselves is nothing a user can do about
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft|trl")
        return _run(job, report)


def _run(job: TrainJob, report: Callable[[TrainStep], None]) -> TrainResult:
    tokenizer = model.load_tokenizer(job)
    adapted = model.build(job, tokenizer)
    parameters = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    watch = Watch(job, report)
    trainer = arguments.trainer(job, adapted, tokenizer, watch)
    model.keep_float32(trainer.model)
    before = _state(adapted)
    with watch:
        trainer.train(resume_from_checkpoint=str(job.checkpoint) if job.checkpoint else None)
    metrics = {"train_loss": watch.losses[-1][1]} if watch.losses else {}
    if watch.eval_losses:
        metrics["eval_loss"] = min(loss for _, loss in watch.eval_losses)
    folder = job.folder / "adapter"
    apart, moved = None, 0
    if not watch.interrupted:
        trainer.save_model(str(folder))  # every process takes part: shards are gathered here
        if trainer.is_world_process_zero():
            _tidy(folder)
            moved = _moved(before, folder)
            if trainer.args.world_size == 1:
                apart = _apart(job, trainer.accelerator.unwrap_model(trainer.model), folder)
    return TrainResult(
        adapter=folder,
        steps=trainer.state.global_step,
        losses=tuple(watch.losses),
        moved=moved,
        tensors=len(before),
        first_step=watch.first_step,
        interrupted=watch.interrupted,
        apart=apart,
        metrics=metrics,
        parameters=parameters,
        peak_memory=_peak_memory(),
        versions={name: version(name) for name in _VERSIONS}
        | ({"bitsandbytes": version("bitsandbytes")} if job.bits else {}),
        bits=job.bits,
    )


def _state(adapted: Any) -> dict[str, Any]:
    """The adapter's tensors as PEFT saves them."""
    from peft import get_peft_model_state_dict

    return {key: t.detach().cpu().clone() for key, t in get_peft_model_state_dict(adapted).items()}


def _tidy(folder: Path) -> None:
    """Leave the adapter, and not what trainers put beside it; PEFT's README is a form to fill in."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in {CONFIG, WEIGHTS}:
            path.unlink()


def _moved(before: dict[str, Any], folder: Path) -> int:
    """How many saved tensors differ from what they started as."""
    from safetensors.torch import load_file

    saved = load_file(folder / WEIGHTS)
    return sum(
        key not in before or not bool((value == before[key].to(value.dtype)).all())
        for key, value in saved.items()
    )


def _trained(adapted: Any) -> list[tuple[str, Any]]:
    return [(name, p) for name, p in adapted.named_parameters() if p.requires_grad]


def _apart(job: TrainJob, trained: Any, folder: Any) -> float | None:
    """How far the saved adapter's logits are from the trained one's on the first row, relative to the largest."""
    import torch
    from datasets import Dataset
    from peft import load_peft_weights, set_peft_model_state_dict

    if job.objective not in {"sft", "classify"} or job.peft["task_type"] != "CAUSAL_LM":
        return None
    ids = Dataset.from_file(str(job.rows))[0]["input_ids"]
    where = next(trained.parameters()).device
    given = torch.tensor([ids], device=where)
    trained.eval()
    with torch.no_grad():
        live = trained(input_ids=given).logits.float()
        for name, parameter in _trained(trained):  # what is saved must bring every value back
            if "prompt_encoder" not in name:
                parameter.data.zero_()
        set_peft_model_state_dict(trained, load_peft_weights(str(folder), device=str(where)))
        again = trained(input_ids=given).logits.float()
    largest = float(live.abs().max())
    if not largest > 0:
        raise TrainingError(
            "the trained model returns nothing but zeros",
            why="training diverged",
            fix="a lower --lr",
        )
    return float((again - live).abs().max()) / largest


def _peak_memory() -> int:
    """Bytes: of the GPU where there is one, else of this process."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)
