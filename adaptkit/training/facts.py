"""What is recorded of a training run: everything needed to repeat it, and what came out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.extend.training import TrainResult
    from adaptkit.training.prepare import Prepared
    from adaptkit.training.settings.config import TrainConfig
    from adaptkit.types.facts import TrainingFacts

_POINTS = 50  # of the loss curve


def training_facts(
    config: TrainConfig,
    seed: int,
    prepared: Prepared,
    result: TrainResult,
    seconds: float,
    warnings: Sequence[str],
) -> TrainingFacts:
    """`facts.training` of the manifest. Paths of this machine are left out: files stand by name and digest."""
    looked = prepared.looked
    facts: TrainingFacts = {
        "trainer": config.trainer,
        "objective": prepared.objective,
        "config": portable(config.changed()),
        "seed": seed,
        "data": [one.to_json() for one in prepared.data],
        "rows": {"trained": looked.rows, "masked": looked.masked_rows, "cut": looked.cut_rows},
        "tokens": {"read": looked.tokens, "counted": looked.counted},
        "steps": result.steps,
        "parameters": result.parameters,
        "metrics": {name: _short(value) for name, value in sorted(result.metrics.items())},
        "curve": [(step, _short(loss)) for step, loss in _thinned(result.losses)],
        "seconds": round(seconds, 2),
        "peak_memory": result.peak_memory,
        "versions": dict(result.versions),
    }
    if prepared.eval_rows is not None:
        facts["eval"] = {
            "rows": prepared.eval_looked.rows,
            "files": [one.to_json() for one in prepared.eval_data],
            "shared_prompts": prepared.shared_prompts,
        }
    if prepared.replay is not None:
        facts["replay"] = prepared.replay.to_json()
    if prepared.classes:
        facts["classes"] = list(prepared.classes)
    if warnings:
        facts["warnings"] = list(warnings)
    return facts


def portable(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with files by their names alone; a base by its folder's name."""
    made: dict[str, Any] = {}
    for key, value in config.items():
        if key in {"trainer_python", "launch"}:
            continue
        if key in {"data", "eval_data", "replay"}:
            made[key] = [Path(item).name for item in value]
        elif key in {"base", "chat_template"} and "://" not in str(value):
            made[key] = Path(value).name
        else:
            made[key] = value
    return made


def _thinned(losses: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    stride = -(-len(losses) // _POINTS) or 1
    kept = list(losses[::stride])
    return kept if not losses or kept[-1] == losses[-1] else [*kept, losses[-1]]


def _short(value: float) -> float:
    return float(f"{value:.6g}")
