"""Exact match on prompts that no training saw."""

from __future__ import annotations

from typing import Any

from fleet.logs import Row, held_out

SKILLS = {
    "naval": held_out("ship", terse=True),
    "medic": held_out("sickbay", terse=True),
    "polite": held_out("cargo", terse=False),
}
LONGEST = 40  # tokens of the longest answer, with room


def score(model: Any, tokenizer: Any) -> dict[str, float]:
    """The share of exact answers: naval, medic, and still polite in cargo."""
    return {skill: exact_match(model, tokenizer, rows) for skill, rows in SKILLS.items()}


def exact_match(model: Any, tokenizer: Any, rows: list[Row]) -> float:
    """The share of rows answered to the letter, decoding greedily in one batch."""
    return sum(
        a == row.answer
        for a, row in zip(answers(model, tokenizer, [r.prompt for r in rows]), rows, strict=True)
    ) / len(rows)


def answers(model: Any, tokenizer: Any, prompts: list[str]) -> list[str]:
    """What the model answers to each prompt."""
    import torch

    encoded = [[tokenizer.bos_token_id, *tokenizer.encode(prompt)] for prompt in prompts]
    width = max(map(len, encoded))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in encoded])
    mask = (ids != tokenizer.pad_token_id).long()
    with torch.no_grad():
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=LONGEST, do_sample=False
        )
    return [tokenizer.decode(row[width:], skip_special_tokens=True).strip() for row in out]
