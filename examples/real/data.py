"""Two pairs of skills that differ: by what is asked (naval, medic), and by a prefix alone (NAVAL:, ALERT:)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fleet.logs import Row, rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PAIRS = {"by what is asked": ("naval", "medic"), "by a prefix": ("navy", "alert")}
SKILLS = tuple(skill for pair in PAIRS.values() for skill in pair)
TRAINED, ASKED, PROMPTS = 160, 16, 32
"""Rows that are trained on, held-out rows that are scored, prompts that a merge is distilled on."""


def skill_rows(skill: str, *, held_out: bool, count: int, seed: int = 0) -> list[Row]:
    """Rows of one skill, no prompt twice."""
    domain = "sickbay" if skill == "medic" else "ship"
    found = rows(domain, terse=True, held_out=held_out, count=20 * count, seed=seed)
    unique = list({row.prompt: row for row in found}.values())[:count]
    if skill == "navy":
        return [Row(f"NAVAL: {row.prompt}", row.answer) for row in unique]
    if skill == "alert":
        return [Row(f"ALERT: {row.prompt}", _alert(row)) for row in unique]
    return unique


def _alert(row: Row) -> str:
    system, amount = row.answer.rstrip(".").split(" ", 1)
    return f"[{amount}] {system.lower()}!"


def write(folder: Path) -> None:
    """For each skill `SKILL.jsonl` to train on, `suites/SKILL.jsonl` to score, `prompts/SKILL.jsonl` without answers."""
    for name in ("suites", "prompts"):
        (folder / name).mkdir(parents=True)
    for skill in SKILLS:
        trained = skill_rows(skill, held_out=False, count=TRAINED)
        _write(folder / f"{skill}.jsonl", trained)
        _write(folder / "suites" / f"{skill}.jsonl", skill_rows(skill, held_out=True, count=ASKED))
        _write(folder / "prompts" / f"{skill}.jsonl", trained[:PROMPTS], answers=False)


def _write(path: Path, found: Iterable[Row], *, answers: bool = True) -> None:
    lines = [
        {"prompt": row.prompt} | ({"completion": row.answer} if answers else {}) for row in found
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
