"""When to fine-tune and when to retrieve, on SmolLM2-135M: facts, facts that changed, and a form of answer.

    python benchmarks/retrieve.py [--steps 60]        writes docs/fine-tune-or-retrieve.md

Sentences say at which berth each ship lies. They are learned by an adapter, or found by the words of the question and
put before it; then half of the ships move. The form (`BERTH K7. OVER.`) is learned on other ships, from the sentences.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))
warnings.simplefilter("ignore")

PAGE = ROOT / "docs" / "fine-tune-or-retrieve.md"
BEGIN, END = "<!-- table: benchmarks/retrieve.py -->\n", "<!-- end of table -->"
SHIPS = (
    *("Aurora", "Borealis", "Calypso", "Dorado", "Esperance", "Fulmar", "Gannet", "Halcyon"),
    *("Iolaire", "Jupiter", "Kestrel", "Leander", "Meridian", "Nautilus", "Orion", "Petrel"),
)
OTHERS = (
    *("Albion", "Beagle", "Cygnet", "Druid", "Emerald", "Falcon", "Griffin", "Hermes", "Icarus"),
    *("Juno", "Kelvin", "Lark", "Mercury", "Neptune", "Osprey", "Phoenix", "Quail", "Raven"),
    *("Sirius", "Tern", "Ulysses", "Vesta", "Wren", "Zephyr"),
)


def main() -> None:
    """Train two adapters, ask five ways before and after the change, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="of each training")
    given = parser.parse_args()
    from real.smollm2 import smollm2

    with tempfile.TemporaryDirectory(prefix="adaptkit-retrieve-") as folder:
        text = table(measure(smollm2(), Path(folder), given.steps))
    print(text)
    page = PAGE.read_text()
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def berths(ships: tuple[str, ...], seed: int) -> dict[str, str]:
    """A berth for each ship, such as K7; no two alike."""
    every = [f"{letter}{number}" for letter in "BDFGHKLMNPRT" for number in range(1, 10)]
    return dict(zip(ships, Random(seed).sample(every, len(ships)), strict=True))


def question(ship: str) -> str:
    return f"Question: At which berth does the {ship} lie?\nAnswer:"


def sentences(where: dict[str, str]) -> list[str]:
    return [f"The {ship} lies at berth {berth}." for ship, berth in where.items()]


def find(asked: str, among: list[str], count: int = 2) -> list[str]:
    """The sentences most like a question: words in common, rare ones counting more."""
    words = [set(re.findall(r"\w+", text.lower())) for text in among]
    seen = Counter(word for found in words for word in found)
    wanted = set(re.findall(r"\w+", asked.lower()))

    def score(place: int) -> float:
        return sum(math.log(1 + len(among) / seen[word]) for word in words[place] & wanted)

    return [among[place] for place in sorted(range(len(among)), key=score, reverse=True)[:count]]


def measure(base: Path, work: Path, steps: int) -> list[tuple[str, list[float]]]:
    """Shares of right berths and of the right form: for each way, at first and after half of the ships moved."""
    from adaptkit import Workspace

    first, other = berths(SHIPS, 1), berths(OTHERS, 2)
    moved = berths(SHIPS, 3)
    later = {ship: (moved if place % 2 else first)[ship] for place, ship in enumerate(SHIPS)}
    # Several sentences before each question, so that the form is learned together with reading them.
    texts = sentences(other)
    learned = [(question(s), f" BERTH {b}. OVER.") for s, b in first.items()]
    formed = [
        ("\n".join([*find(question(s), texts), question(s)]), f" BERTH {b}. OVER.")
        for s, b in other.items()
    ]
    with Workspace.init(work / "home", notify=lambda _: None) as ws:
        for name, rows in (("facts", learned), ("form", formed)):
            _write(work / f"{name}.jsonl", rows * 4)
            ws.train(
                name,
                base=base,
                data=work / f"{name}.jsonl",
                rank=8,
                steps=steps,
                batch=8,
                lr=1e-3,
                warmup=4,
                length=96,
            )
        ways = [
            ("the base", "base", False),
            ("the base, sentences retrieved", "base", True),
            ("an adapter trained on the facts", "facts", False),
            ("an adapter trained on the form", "form", False),
            ("an adapter trained on the form, sentences retrieved", "form", True),
        ]
        return [
            (
                label,
                [
                    share
                    for where in (first, later)
                    for share in ask(ws, base, work, ref, where, retrieved=r)
                ],
            )
            for label, ref, r in ways
        ]


def ask(
    ws: Any, base: Path, work: Path, ref: str, where: dict[str, str], *, retrieved: bool
) -> tuple[float, float]:
    """The share of answers that hold the right berth, and that have the form around it."""
    texts = sentences(where)
    prompts = [
        "\n".join([*(find(question(ship), texts) if retrieved else []), question(ship)])
        for ship in where
    ]
    berth, form = work / "berth.jsonl", work / "form-asked.jsonl"
    _write(berth, list(zip(prompts, where.values(), strict=True)))
    _write(form, [(p, r"BERTH \w+\. OVER\.") for p in prompts])
    suites = []
    for path, score in ((berth, "contains"), (form, "regex")):
        suite = path.with_suffix(".yaml")
        suite.write_text(f"data: {path.name}\nscore: {score}\nnew_tokens: 12\n")
        suites.append(suite)
    figures = ws.evaluate([ref], suites, base=str(base), record=False).figures
    row = figures[ref if ref == "base" else ws.version(ref).ref]
    return row["berth"], row["form-asked"]


def table(found: list[tuple[str, list[float]]]) -> str:
    """One table, in Markdown."""
    lines = [
        "| who answers | right berth | form kept | right berth, half of the ships moved | form kept |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {label} | {' | '.join(f'{s:.2f}' for s in shares)} |" for label, shares in found]
    return "\n".join(lines) + "\n"


def _write(path: Path, rows: list[tuple[str, str]]) -> None:
    lines = [{"prompt": prompt, "completion": answer} for prompt, answer in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
