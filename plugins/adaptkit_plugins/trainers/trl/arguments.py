"""A job as TRL's and transformers' own trainers want it."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from adaptkit.errors import NotFound, TrainingError
from adaptkit_plugins.trainers.trl.model import device, use_bf16

if TYPE_CHECKING:
    from adaptkit.extend.training import TrainJob

_KEPT = 2  # checkpoints: the newest, and the last good one should the newest be cut off


def check_names(job: TrainJob) -> None:
    """Refuse an optimizer or a schedule that transformers does not know, with the nearest that it does."""
    from transformers import SchedulerType
    from transformers.training_args import OptimizerNames

    for kind, name, known in (
        ("optimizer", job.options.optimizer, OptimizerNames),
        ("schedule", job.options.schedule, SchedulerType),
    ):
        names = [one.value for one in known]
        if name and name not in names:
            raise NotFound(kind, name, names)


def trainer(job: TrainJob, adapted: Any, tokenizer: Any, watch: Any) -> Any:
    """The trainer of the job's objective, ready to run."""
    from datasets import Dataset
    from transformers import EarlyStoppingCallback

    callbacks = [watch]
    if job.options.early_stopping:
        callbacks.append(EarlyStoppingCallback(job.options.early_stopping))
    rows = Dataset.from_file(str(job.rows))
    held = Dataset.from_file(str(job.eval_rows)) if job.eval_rows else None
    try:
        made = _MAKERS[job.objective](
            job,
            model=adapted,
            train_dataset=rows,
            eval_dataset=held,
            processing_class=tokenizer,
            callbacks=callbacks,
        )
    except (ValueError, ImportError) as error:
        raise TrainingError(
            f"TRL cannot train this as {job.objective}",
            why=str(error).splitlines()[0],
            fix="adaptkit train --help lists the options",
        ) from error
    except RuntimeError as error:
        if "requires" not in str(error):
            raise
        raise TrainingError(  # transformers' reporters, such as wandb
            f"cannot report to {', '.join(job.options.report_to)}",
            why=str(error).splitlines()[0],
            fix="install it, or leave out --report-to",
        ) from error
    if not job.options.packing:
        _check_kept(len(rows), len(made.train_dataset), job.objective)
    from transformers import PrinterCallback, ProgressCallback

    made.remove_callback(PrinterCallback)
    made.remove_callback(ProgressCallback)
    return made


def _check_kept(given: int, kept: int, objective: str) -> None:
    """`TrainingError` when TRL's own preparation left rows out, which it does without a word."""
    if kept < given:
        raise TrainingError(
            f"TRL left out {given - kept:,} of {given:,} rows",
            why=f"its preparation of {objective} drops what it cannot use",
            fix="a longer --length; and look for rows without an answer",
        )


def _sft(job: TrainJob, **parts: Any) -> Any:
    from peft.utils.other import TrainableTokensWrapper
    from trl import SFTConfig, SFTTrainer

    if isinstance(parts["model"].get_output_embeddings(), TrainableTokensWrapper):
        raise TrainingError(
            "cannot train single tokens of this base",
            why="its head is tied to its embedding, and TRL computes the loss from the head's own weight",
            fix="train the whole embedding: --set modules_to_save=embed_tokens, or leave out trainable_token_indices",
        )
    prepared = {} if job.options.packing else {"dataset_kwargs": {"skip_prepare_dataset": True}}
    config = SFTConfig(
        **_known(SFTConfig, _common(job)),
        **prepared,
        max_length=job.options.length,
        packing=job.options.packing,
    )
    return SFTTrainer(args=config, **parts)


def _classify(job: TrainJob, **parts: Any) -> Any:
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    collator = DataCollatorWithPadding(parts["processing_class"])
    config = TrainingArguments(**_known(TrainingArguments, _common(job)))
    return Trainer(args=config, data_collator=collator, **parts)


def _dpo(job: TrainJob, **parts: Any) -> Any:
    from trl import DPOConfig, DPOTrainer

    config = DPOConfig(**_known(DPOConfig, _preferring(job)))
    return DPOTrainer(args=config, **parts)


def _kto(job: TrainJob, **parts: Any) -> Any:
    from trl import KTOConfig, KTOTrainer

    return KTOTrainer(args=KTOConfig(**_known(KTOConfig, _preferring(job))), **parts)


def _orpo(job: TrainJob, **parts: Any) -> Any:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    return ORPOTrainer(args=ORPOConfig(**_known(ORPOConfig, _preferring(job))), **parts)


_MAKERS = {"sft": _sft, "classify": _classify, "dpo": _dpo, "kto": _kto, "orpo": _orpo}


def _preferring(job: TrainJob) -> dict[str, Any]:
    beta = {} if job.options.beta is None else {"beta": job.options.beta}
    return _common(job) | beta | {"max_length": job.options.length}


def _common(job: TrainJob) -> dict[str, Any]:
    """What all of them take, by transformers' names."""
    options = job.options
    every = options.eval_every or max(1, (options.steps or 500) // 10)
    evaluated = {"eval_strategy": "steps", "eval_steps": every} if job.eval_rows else {}
    save = options.save_every or max(1, min(500, (options.steps or 5000) // 4))
    if options.early_stopping:
        save = every  # the best checkpoint is one that was evaluated
        evaluated |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    if device() == "cpu" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        evaluated |= {"ddp_backend": "gloo"}
    return evaluated | {
        "output_dir": str(job.folder / "checkpoints"),
        "max_steps": options.steps or -1,
        "num_train_epochs": options.epochs,
        "learning_rate": options.lr,
        "lr_scheduler_type": options.schedule,
        "warmup_steps": options.warmup,
        "per_device_train_batch_size": options.batch,
        "per_device_eval_batch_size": options.batch,
        "gradient_accumulation_steps": options.accumulate,
        "gradient_checkpointing": options.gradient_checkpointing,
        "neftune_noise_alpha": options.neftune,
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.clip,
        "optim": options.optimizer or _optimizer(job),
        "bf16": use_bf16(job),
        "use_cpu": device() == "cpu",
        "seed": options.seed,
        "data_seed": options.seed,
        "save_steps": save,
        "save_total_limit": _KEPT,
        "logging_steps": max(1, min(10, (options.steps or 500) // 20)),
        "logging_nan_inf_filter": False,
        "report_to": list(options.report_to) or "none",
        "disable_tqdm": True,
        "remove_unused_columns": job.objective == "classify",
        "dataloader_pin_memory": device() == "cuda",
    }


def _optimizer(job: TrainJob) -> str:
    """Paged AdamW in 8 bits for a quantised base on a GPU, else torch's own."""
    if job.bits is not None and device() == "cuda":
        return "paged_adamw_8bit"
    return "adamw_torch"


def _known(config: type, values: dict[str, Any]) -> dict[str, Any]:
    """Those that this version's class has; transformers renames some between versions."""
    names = {field.name for field in dataclasses.fields(config)}
    if "activation_checkpointing" in names:  # transformers 5.23 on; the old name then warns
        on = values["gradient_checkpointing"]
        values = values | {"activation_checkpointing": on, "gradient_checkpointing": on}
    if "warmup_ratio" in names and values["warmup_steps"] < 1:
        values = values | {"warmup_ratio": values["warmup_steps"], "warmup_steps": 0}
    return {name: value for name, value in values.items() if name in names}
