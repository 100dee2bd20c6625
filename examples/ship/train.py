"""The skills: LoRA adapters that are terse in their own domain and stay polite in the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peft import LoraConfig, get_peft_model

from ship import logs
from ship.base import load
from ship.fit import fit, seeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RANK, ALPHA = 8, 16
STEPS = 400
RATE = 5e-3
STRAY_STEPS = 10  # a stray need not be a good one


def make_adapter(
    base_dir: Path,
    directory: Path,
    skill: logs.Skill = "naval",
    seed: int = 0,
    log: Callable[[str], object] = print,
    steps: int = STEPS,
) -> None:
    """Train one skill on the base, and save the adapter in `directory` as PEFT does."""
    model, tokenizer = load(base_dir)
    config = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with seeded(seed):
        model = get_peft_model(model, config)
        rows = logs.skill_rows(skill, seed)
        fit(model, tokenizer, rows, steps=steps, rate=RATE, seed=seed, log=log)
    # PEFT keeps the targets as a set, and would write them in another order in every process.
    saved = model.peft_config["default"]
    saved.target_modules = sorted(saved.target_modules)
    model.save_pretrained(directory)


def make_stray(base_dir: Path, directory: Path, log: Callable[[str], object] = print) -> None:
    """A barely trained naval adapter of the other base, for showing a refused merge."""
    make_adapter(base_dir, directory, "naval", 1, log, STRAY_STEPS)
