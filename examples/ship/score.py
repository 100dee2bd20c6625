"""Exact match on prompts that no training saw, by greedy decoding in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ship import logs

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 128
LONGEST = 32  # tokens of an answer


def answers(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """What the model answers to each prompt."""
    import torch

    said: list[str] = []
    for start in range(0, len(prompts), BATCH):
        asked = tokenizer(list(prompts[start : start + BATCH]), return_tensors="pt", padding=True)
        with torch.inference_mode():
            out = model.generate(**asked, do_sample=False, max_new_tokens=LONGEST)
        new = out[:, asked["input_ids"].shape[1] :]
        said += [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
    return said


def exact_match(model: Any, tokenizer: Any, rows: Sequence[logs.Row]) -> float:
    """The share of rows, 0 to 1, that the model answers to the letter."""
    said = answers(model, tokenizer, [row.prompt for row in rows])
    return sum(a == row.answer for a, row in zip(said, rows, strict=True)) / len(rows)


def score(model: Any, tokenizer: Any) -> dict[str, float]:
    """Exact match held out: terse `naval` in ship, terse `medic` in sickbay, `polite` in cargo."""
    return {
        "naval": exact_match(model, tokenizer, logs.held_out_rows("ship", terse=True)),
        "medic": exact_match(model, tokenizer, logs.held_out_rows("sickbay", terse=True)),
        "polite": exact_match(model, tokenizer, logs.held_out_rows("cargo", terse=False)),
    }
