"""Make the story's models if need be, and print what they and PEFT's own merges of them can do."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

# Spinning threads cost 4x on two busy cores; torch reads this when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from ship.cache import Story, story

PEFT_MERGES: dict[str, dict[str, Any]] = {
    "cat": {},  # the exact sum
    "linear": {},
    "ties": {"density": 0.5},
}


def main() -> None:
    """Read the command line, make the models, print the table."""
    parser = argparse.ArgumentParser(prog="python -m ship", description=__doc__)
    parser.add_argument("--root", type=Path, help="where the models lie (default: below .cache)")
    parser.add_argument("--weight", type=float, default=0.8, help="of each adapter in a merge")
    given = parser.parse_args()
    start = time.perf_counter()
    made = story(given.root)
    print(f"models in {made.base.parent}, ready after {time.perf_counter() - start:.1f} s")
    table(made, given.weight)


def table(made: Story, weight: float) -> None:
    """Exact match on held-out prompts: the base, each adapter alone, and PEFT's merges."""
    from peft import PeftModel

    from ship.base import load
    from ship.score import score

    def line(label: str, model: Any) -> None:
        start = time.perf_counter()
        figures = "".join(f"{figure:8.2f}" for figure in score(model, tokenizer).values())
        print(f"{label:<28}{figures}   ({time.perf_counter() - start:.1f} s)", flush=True)

    print(f"{'':<28}   naval   medic  polite")
    base, tokenizer = load(made.base)
    line("base", base)
    model = PeftModel.from_pretrained(base, made.naval, adapter_name="naval")
    model.load_adapter(made.medic, adapter_name="medic")
    for skill in ("naval", "medic"):
        model.set_adapter(skill)
        line(skill, model)
    for kind, more in PEFT_MERGES.items():
        model.add_weighted_adapter(
            ["naval", "medic"],
            [weight, weight],
            kind,
            combination_type=kind,
            **more,
        )
        model.set_adapter(kind)
        line(f"PEFT {kind}, {weight} + {weight}", model)


if __name__ == "__main__":
    main()
