"""Supervised training on question and answer rows: short, seeded, the same bytes every time."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ship.logs import Row

BATCH = 32
WARM_UP = 50
NO_LOSS = -100  # the label that transformers leaves out of the loss
THREADS = 1  # a second thread gains little on matrices this small, and may sum in another order


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch on a fixed number of threads, and leave the caller's state as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def encode(tokenizer: Any, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Right-padded `input_ids`, `attention_mask` and `labels`, with labels on the answer only."""
    asked = tokenizer([row.prompt for row in rows])["input_ids"]
    answered = tokenizer([f" {row.answer}{tokenizer.eos_token}" for row in rows])["input_ids"]
    shape = len(rows), max(len(a) + len(b) for a, b in zip(asked, answered, strict=True))
    ids = torch.full(shape, tokenizer.pad_token_id)
    mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, NO_LOSS)
    for n, (question, answer) in enumerate(zip(asked, answered, strict=True)):
        middle, end = len(question), len(question) + len(answer)
        ids[n, :end] = torch.tensor(question + answer)
        mask[n, :end] = 1
        labels[n, middle:end] = torch.tensor(answer)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def batches(count: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """Row numbers of `steps` batches, from one shuffle of all rows after another."""
    chance = torch.Generator().manual_seed(seed)
    left = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(left) < BATCH:
            left = torch.cat([left, torch.randperm(count, generator=chance)])
        yield left[:BATCH]
        left = left[BATCH:]


def fit(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    *,
    steps: int,
    rate: float,
    seed: int,
    log: Callable[[str], object],
) -> None:
    """Train what is trainable with AdamW, a warm-up and a cosine; a line to `log` now and then."""

    def share(step: int) -> float:
        warm = min(1.0, (step + 1) / WARM_UP)
        return warm * 0.5 * (1 + math.cos(math.pi * step / steps))

    data = encode(tokenizer, rows)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    start = time.perf_counter()
    model.train()
    for step, chosen in enumerate(batches(len(rows), steps, seed), 1):
        loss = model(**{name: tensor[chosen] for name, tensor in data.items()}).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps:
            log(f"    step {step} of {steps}: loss {loss:.4f}, {time.perf_counter() - start:.0f} s")
    model.eval()
