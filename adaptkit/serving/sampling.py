"""Choosing the next token of a row, and how likely it was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.errors import Refused

if TYPE_CHECKING:
    from torch import Tensor

GREEDY = 1e-5
"""Below this temperature the likeliest token is taken, as vLLM does: a division by less leaves float32's range."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of one request are chosen. A temperature of (almost) 0 takes the likeliest."""

    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many likely tokens to report beside the chosen one; None reports nothing."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A token, its log-probability, and the likeliest ones with theirs."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def generator_for(sampling: Sampling) -> Any:
    """The request's own source of randomness: the same seed gives the same tokens in any batch."""
    import torch

    generator = torch.Generator()
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)
    return generator


def choose(logits: Tensor, sampling: Sampling, generator: Any) -> Chosen:
    """The next token from one row's logits; `Refused` when they are not finite numbers."""
    import torch

    logprobs = torch.log_softmax(logits.float().cpu(), -1)
    if not math.isfinite(float(logprobs.max())):
        raise Refused(
            "cannot answer with this model",
            why="what it computes for this prompt are not finite numbers",
            fix="smaller weights, or a server with another --dtype",
        )
    if sampling.temperature < GREEDY:
        token = int(logprobs.argmax())
    else:
        chances = torch.softmax(logprobs / sampling.temperature, -1)
        if sampling.top_p < 1:
            ordered, order = chances.sort(descending=True)
            beyond = ordered.cumsum(-1) - ordered >= sampling.top_p
            beyond[0] = False  # whatever rounding makes of a tiny share, one token stays
            ordered[beyond] = 0
            chances = torch.zeros_like(chances).scatter(-1, order, ordered)
        token = int(torch.multinomial(chances, 1, generator=generator))
    top: tuple[tuple[int, float], ...] = ()
    if sampling.logprobs:
        values, tokens = logprobs.topk(min(sampling.logprobs, logprobs.numel()))
        top = tuple(zip(tokens.tolist(), values.tolist(), strict=True))
    return Chosen(token, float(logprobs[token]), top)
