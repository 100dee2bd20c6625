"""What `adaptkit train` adds to a step of the bare TRL script: the same base, rows, adapter and settings.

    OMP_WAIT_POLICY=passive python benchmarks/training.py

Times are this process's own CPU time between the first and the last logged step, the two taken in turns, so that a
busy machine slows both alike.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["HF_HUB_OFFLINE"] = "1"

STEPS, BATCH, ROUNDS, LENGTH = 80, 32, 5, 64


def main() -> None:
    from fleet.cache import bases

    base = bases().base
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        rows = write_rows(base, work)
        pairs = []
        for turn in range(ROUNDS):
            order = (bare, ours) if turn % 2 else (ours, bare)
            times = {run: run(base, rows, work / f"{turn}-{run.__name__}") for run in order}
            pairs.append((times[ours], times[bare]))
    ratios = [mine / theirs for mine, theirs in pairs]
    for label, index in (("adaptkit train", 0), ("bare TRL", 1)):
        print(
            f"{label:<16}{1000 * statistics.median(p[index] for p in pairs):>8.1f} ms of CPU a step"
        )
    print(f"ratio: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


def write_rows(base: Path, work: Path) -> Path:
    """The naval rows as tokens, as `adaptkit train` hands them to a trainer."""
    from transformers import AutoTokenizer

    from adaptkit.training.config import TrainConfig
    from adaptkit.training.data.datasets import open_data
    from adaptkit.training.prepare import prepare
    from fleet import files

    data = files.write(work / "data") / "naval.jsonl"
    config = TrainConfig(base=str(base), data=(str(data),), name="naval", length=LENGTH)
    tokenizer = AutoTokenizer.from_pretrained(base)
    opened = open_data([data])
    return prepare(config, 0, opened, (), (), tokenizer, base, work, lambda _: None).rows


def ours(base: Path, rows: Path, folder: Path) -> float:
    """Seconds a step by the trainer plugin."""
    from adaptkit.extend.training import TrainJob, TrainOptions
    from adaptkit_plugins.trainers.trl import Trl

    options = TrainOptions(
        seed=0, steps=STEPS, lr=5e-3, batch=BATCH, length=LENGTH, save_every=STEPS
    )
    peft = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "target_modules": "all-linear"}
    job = TrainJob(base, "sft", peft, rows, folder, options)
    seen: list[tuple[int, float]] = []
    Trl().train(job, lambda step: seen.append((step.step, time.process_time())))
    return _per_step(seen)


def bare(base: Path, rows: Path, folder: Path) -> float:
    """Seconds a step by the script that TRL's page shows, on the same rows."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    seen: list[tuple[int, float]] = []

    class Times(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                seen.append((state.global_step, time.process_time()))

    config = SFTConfig(
        output_dir=str(folder),
        max_steps=STEPS,
        learning_rate=5e-3,
        lr_scheduler_type="cosine",
        per_device_train_batch_size=BATCH,
        gradient_checkpointing=False,
        logging_steps=max(1, min(10, STEPS // 20)),
        save_steps=STEPS,
        bf16=False,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        max_length=LENGTH,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=config,
        train_dataset=Dataset.from_file(str(rows)),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Times()],
    )
    trainer.train()
    return _per_step(seen)


def _per_step(seen: list[tuple[int, float]]) -> float:
    (first, begin), (last, end) = seen[0], seen[-1]
    return (end - begin) / (last - first)


if __name__ == "__main__":
    main()
