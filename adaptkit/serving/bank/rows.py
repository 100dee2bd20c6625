"""Which adapters, at which weights, each row of a batch goes through."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from adaptkit.serving.bank.arrow import ArrowMix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

BASE = 0
"""The slot that is always zero."""
Mix = tuple[tuple[int, float], ...] | ArrowMix
"""Slots with their weights, empty for a row of the base; or slots that its tokens choose among."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """The rows of one slot: their numbers (None for all), and their weights (None for all 1)."""

    slot: int
    rows: Tensor | None
    weights: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The plan of one batch; a row with several adapters has several entries.

    `rows` is None when entry i is row i for every row. `weights` is None when all are 1.
    """

    count: int
    slots: Tensor
    rows: Tensor | None
    weights: Tensor | None
    segments: tuple[Segment, ...]
    distinct: frozenset[int] = field(default_factory=frozenset)
    arrows: tuple[tuple[int, ArrowMix], ...] = ()
    """The rows whose tokens choose, by number."""

    def arrows_repeated(self, times: int) -> tuple[tuple[int, ArrowMix], ...]:
        """The rows whose tokens choose, where each row stands `times` times in a row."""
        return tuple(
            (row * times + turn, replace(mix, tally=None if turn else mix.tally))
            for row, mix in self.arrows
            for turn in range(times)
        )


def plan_rows(mixes: Sequence[Mix], device: Any) -> Rows:
    """Lay a batch out once; every module and every step then uses it."""
    import torch

    entries = [
        (slot, row, weight)
        for row, mix in enumerate(mixes)
        if not isinstance(mix, ArrowMix)
        for slot, weight in mix
        if weight
    ]
    arrows = tuple((row, mix) for row, mix in enumerate(mixes) if isinstance(mix, ArrowMix))
    slots = [slot for slot, _, _ in entries]
    numbers = [row for _, row, _ in entries]
    weights = [weight for _, _, weight in entries]
    every = numbers == list(range(len(mixes)))
    plain = all(weight == 1.0 for weight in weights)

    def indices(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    def factors(values: list[float]) -> Tensor | None:
        if all(value == 1.0 for value in values):
            return None
        return torch.tensor(values, dtype=torch.float32, device=device)

    segments = []
    for slot in sorted(set(slots)):
        mine = [(row, weight) for other, row, weight in entries if other == slot]
        whole = [row for row, _ in mine] == list(range(len(mixes)))
        segments.append(
            Segment(
                slot,
                None if whole else indices([row for row, _ in mine]),
                factors([weight for _, weight in mine]),
            )
        )
    return Rows(
        len(mixes),
        indices(slots),
        None if every else indices(numbers),
        None if plain else factors(weights),
        tuple(segments),
        frozenset(slots).union(*(mix.slots for _, mix in arrows)),
        arrows,
    )
