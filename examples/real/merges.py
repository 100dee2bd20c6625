"""Every merge of a pair: adaptkit's without data, by moments and distilled, and PEFT's own modes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PEFT = (("linear", 0.7, {}), ("ties", 1.0, {"density": 0.5}), ("svd", 0.8, {}))
RANK = 8


def merges(
    ws: Any, base: Path, one: str, other: str, work: Path, steps: int
) -> Iterator[tuple[str, str]]:
    """Make each merge of two registered adapters; yields what it is and its name."""
    weighted = {one: 1.0, other: 1.0}
    yield "cat, 0.8", _merged(ws, f"{one}-cat", dict.fromkeys(weighted, 0.8), strategy="cat")
    for kind, weight, how in PEFT:
        folder = work / f"{one}-peft-{kind}"
        by_peft(base, ws.path(one), ws.path(other), folder, kind, weight, **how)
        name = f"{one}-peft-{kind}"
        ws.add(folder / "merged", name, base=str(base))
        yield f"PEFT {kind}, {weight:g}", name
    yield "regmean", _merged(ws, f"{one}-regmean", weighted, strategy="regmean")
    name = _merged(ws, f"{one}-regmean-{RANK}", weighted, strategy="regmean", rank=RANK)
    yield f"regmean, rank {RANK}", name
    prompts = {skill: work / "prompts" / f"{skill}.jsonl" for skill in (one, other)}
    distilled = f"{one}-distilled"
    ws.distil(name, base, prompts, name=distilled, steps=steps, batch=4)
    yield f"distilled from it, rank {RANK}", distilled


def _merged(ws: Any, name: str, sources: dict[str, float], **how: Any) -> str:
    ws.merge(sources, name=name, **how)
    return name


def by_peft(
    base: Path, one: Path, other: Path, out: Path, kind: str, weight: float, **how: Any
) -> None:
    """PEFT's own `add_weighted_adapter`, saved below `out`."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base)
        both = PeftModel.from_pretrained(model, str(one), adapter_name="one")
        both.load_adapter(str(other), adapter_name="other")
        both.add_weighted_adapter(
            ["one", "other"], [weight, weight], "merged", combination_type=kind, **how
        )
        both.save_pretrained(out, selected_adapters=["merged"])
