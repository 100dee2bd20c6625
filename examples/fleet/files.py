"""The story's rows as files, for `adaptkit train` and `adaptkit eval`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fleet.logs import Row, rows
from fleet.models import DOMAINS
from fleet.score import SKILLS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

OTHERS = {"ship": ("sickbay", "cargo"), "sickbay": ("ship", "cargo")}
FEW = 64
RATIO = 0.2857  # 600 polite rows beside 1,500 terse ones


def write(folder: Path, seed: int = 0) -> Path:
    """`naval.jsonl` and `medic.jsonl`, what was polite before beside each, few rows to distil with, and suites."""
    suites = folder / "suites"
    suites.mkdir(parents=True)
    for skill, domain in DOMAINS.items():
        write_rows(
            folder / f"{skill}.jsonl",
            rows(domain, terse=True, held_out=False, count=1500, seed=seed),
        )
        polite = [
            row
            for other in OTHERS[domain]
            for row in rows(other, terse=False, held_out=False, count=300, seed=seed)
        ]
        write_rows(folder / f"before-{skill}.jsonl", polite)
    for skill, held in SKILLS.items():
        write_rows(suites / f"{skill}.jsonl", held)
        domain = DOMAINS.get(skill, "cargo")
        many = rows(domain, terse=skill in DOMAINS, held_out=False, count=4 * FEW, seed=seed + 1)
        write_rows(
            folder / f"few-{skill}.jsonl", list({row.prompt: row for row in many}.values())[:FEW]
        )
    return folder


def write_rows(path: Path, found: Iterable[Row]) -> None:
    """Rows as JSON lines."""
    path.write_text(
        "".join(json.dumps({"prompt": r.prompt, "completion": r.answer}) + "\n" for r in found)
    )
