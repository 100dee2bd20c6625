"""What training costs and what it keeps: overhead over the bare TRL script, replay, QLoRA. Writes its own docs page.

    python benchmarks/training.py [--steps 400] [--rounds 3] [--print]

Overhead is this process's own CPU time between the first and the last logged step, `adaptkit train` and the script that
TRL's page shows taken in turns on the same rows, so that a busy machine slows both alike. The rest is exact match on
held-out prompts of the demo's naval adapter.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))
warnings.simplefilter("ignore")

STEPS, BATCH, LENGTH = 40, 32, 64
RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3)
PAGE = ROOT / "docs" / "training-benchmarks.md"
HEAD = """# What training costs, and what it keeps

`python benchmarks/training.py` measured all of this on the demo's base (400,000 parameters, naval rows, LoRA of rank 8 on
all linear layers, batches of 32).
"""


def main() -> None:
    """Measure, print, write the page."""
    from fleet.cache import bases

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400, help="of each whole training")
    parser.add_argument("--rounds", type=int, default=3, help="of the overhead")
    parser.add_argument("--print", action="store_true", help="write no page")
    given = parser.parse_args()
    base = bases().base
    text = "\n".join(
        [
            HEAD,
            "## Overhead\n",
            overhead(base, given.rounds),
            "## Replay\n",
            replay(base, given.steps),
            "## QLoRA and LoRA\n",
            qlora(base, given.steps),
        ]
    )
    print(text)
    if not given.print:
        PAGE.write_text(text)


def overhead(base: Path, rounds: int) -> str:
    """A step by `adaptkit train` beside one by the bare script."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        rows = write_rows(base, work)
        pairs = []
        for turn in range(rounds):
            order = (bare, ours) if turn % 2 else (ours, bare)
            times = {run: run(base, rows, work / f"{turn}-{run.__name__}") for run in order}
            pairs.append((times[ours], times[bare]))
    ratios = [mine / theirs for mine, theirs in pairs]
    lines = ["| | CPU milliseconds a step, median |", "|---|---|"]
    for label, index in (("`adaptkit train`", 0), ("bare TRL script", 1)):
        lines.append(f"| {label} | {1000 * statistics.median(p[index] for p in pairs):.1f} |")
    return "\n".join(lines) + (
        f"\n\nRatio: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f} "
        f"over {rounds} rounds of {STEPS} steps.\n"
    )


def replay(base: Path, steps: int) -> str:
    """What stays polite, by the share of replayed rows."""
    lines = [
        "| share of replay | naval | polite in cargo | polite in sickbay |",
        "|---|---|---|---|",
    ]
    for ratio in RATIOS:
        figures, _ = trained(base, steps, ratio)
        lines.append(
            f"| {ratio:.0%} | {figures['naval']:.2f} | {figures['polite']:.2f} | {figures['before']:.2f} |"
        )
    return "\n".join(lines) + f"\n\n{steps} steps each.\n"


def qlora(base: Path, steps: int) -> str:
    """Accuracy of both, and what the base takes in memory."""
    lines = [
        "| method | naval | polite in cargo | base in memory | seconds |",
        "|---|---|---|---|---|",
    ]
    sizes = {"lora": footprint(base, bits=None), "qlora": footprint(base, bits=4)}
    for method, size in sizes.items():
        figures, facts = trained(base, steps, 0.2857, method)
        lines.append(
            f"| {method} | {figures['naval']:.2f} | {figures['polite']:.2f} | {size / 1e6:.2f} MB "
            f"| {facts['seconds']:.0f} |"
        )
    share = sizes["qlora"] / sizes["lora"]
    return "\n".join(lines) + (
        f"\n\nNF4 with double quantisation; the base takes {share:.2f} of its memory in single precision. On a CPU it saves no memory at the peak: the base is loaded "
        "whole before it is quantised.\n"
    )


def footprint(base: Path, bits: int | None) -> int:
    """Bytes of the base's parameters and buffers once it is loaded."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    how = {}
    if bits == 4:
        how["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, **how)
    return int(model.get_memory_footprint())


def trained(
    base: Path, steps: int, ratio: float, method: str = "lora"
) -> tuple[dict[str, float], dict[str, Any]]:
    """A naval adapter, scored: its own skill, politeness in cargo, and in sickbay; and the facts of its training."""
    from adaptkit import Workspace
    from fleet import files, logs

    with (
        tempfile.TemporaryDirectory(prefix="adaptkit-training-") as name,
        Workspace.init(name, notify=lambda _: None) as ws,
    ):
        data = files.write(Path(name) / "data")
        files.write_rows(data / "before.jsonl", logs.held_out("sickbay", terse=False))
        how = {"replay": data / "before-naval.jsonl", "replay_ratio": ratio} if ratio else {}
        done = ws.train(
            "naval",
            base=base,
            data=data / "naval.jsonl",
            method=method,
            steps=steps,
            batch=BATCH,
            lr=5e-3,
            warmup=20,
            seed=0,
            calibrate=False,
            **how,
        )
        suites = [data / "suites" / "naval.jsonl", data / "suites" / "polite.jsonl"]
        matrix = ws.evaluate(
            ["naval"],
            [*suites, data / "before.jsonl"],
            base=str(base),
            batch=90,
            record=False,
            force=True,
        )
        return dict(matrix.figures["naval@1"]), dict(done.facts)


def write_rows(base: Path, work: Path) -> Path:
    """The naval rows as tokens, as `adaptkit train` hands them to a trainer."""
    from transformers import AutoTokenizer

    from adaptkit.training.data.datasets import open_data
    from adaptkit.training.prepare import prepare
    from adaptkit.training.settings.config import TrainConfig
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
