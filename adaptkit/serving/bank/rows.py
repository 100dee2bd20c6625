"""Which adapters, at which weights, each row of a batch goes through."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
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


@dataclass(frozen=True, eq=False)
class Rows:
    """The plan of one batch; a row with several adapters has several entries.

    `entries` are slot, row and weight. `rows` is None when entry i is row i for every row. `weights`
    is None when all are 1.
    """

    count: int
    entries: tuple[tuple[int, int, float], ...]
    slots: Tensor
    rows: Tensor | None
    weights: Tensor | None
    distinct: frozenset[int]
    arrows: tuple[tuple[int, ArrowMix], ...] = ()
    """The rows whose tokens choose, by number; they have no entries."""
    kept: dict[str, Kept] = field(default_factory=dict)
    """What modules remember of this batch from one step to the next."""

    @cached_property
    def touched(self) -> frozenset[int]:
        """Every slot that some row goes through."""
        return self.distinct.union(*(mix.slots for _, mix in self.arrows))

    def arrows_repeated(self, times: int) -> tuple[tuple[int, ArrowMix], ...]:
        """The rows whose tokens choose, where each row stands `times` times in a row."""
        return tuple(
            (row * times + turn, replace(mix, tally=None if turn else mix.tally))
            for row, mix in self.arrows
            for turn in range(times)
        )

    @cached_property
    def groups(self) -> Groups:
        """The entries by slot, padded to the same number in each."""
        first, last = min(self.distinct), max(self.distinct)
        taken: Counter[int] = Counter()
        at = []
        for slot, _, _ in self.entries:
            at.append((slot, taken[slot]))
            taken[slot] += 1
        most = max(taken.values())
        places = [(slot - first) * most + number for slot, number in at]
        count, device = len(places), self.slots.device
        full = (last + 1 - first) * most == count
        order = sorted(range(count), key=places.__getitem__) if full else None
        return Groups(
            first,
            last + 1,
            most,
            _indices(places, device),
            None if order is None else _indices(order, device),
            in_order=places == list(range(count)) and full,
        )

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The rows of each adapter apart, made when first needed."""
        every = list(range(self.count))
        mine: dict[int, tuple[list[int], list[float]]] = {slot: ([], []) for slot in self.distinct}
        for slot, row, weight in self.entries:
            mine[slot][0].append(row)
            mine[slot][1].append(weight)
        device = self.slots.device
        return tuple(
            Segment(
                slot,
                None if rows == every else _indices(rows, device),
                _factors(weights, device),
            )
            for slot, (rows, weights) in sorted(mine.items())
        )


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Slots `first` to `end` with room for `most` entries each; `places` is where each entry stands.

    `order` is the entry that stands in each place, where none is empty; `in_order` when that is entry i in place i.
    """

    first: int
    end: int
    most: int
    places: Tensor
    order: Tensor | None
    in_order: bool


@dataclass(slots=True, eq=False)
class Kept:
    """What a module keeps of a batch: the largest rank there, and the factors side by side."""

    rank: int
    factors: tuple[Tensor, Tensor] | None = None
    steps: int = 0


def plan_rows(mixes: Sequence[Mix], device: Any) -> Rows:
    """Lay a batch out once; every module and every step then uses it."""
    entries = tuple(
        (slot, row, weight)
        for row, mix in enumerate(mixes)
        if not isinstance(mix, ArrowMix)
        for slot, weight in mix
        if weight
    )
    arrows = tuple((row, mix) for row, mix in enumerate(mixes) if isinstance(mix, ArrowMix))
    return lay_out(entries, len(mixes), device, arrows)


def lay_out(
    entries: tuple[tuple[int, int, float], ...],
    count: int,
    device: Any,
    arrows: tuple[tuple[int, ArrowMix], ...] = (),
) -> Rows:
    """The plan of a batch of `count` rows with these entries, and these rows that choose."""
    slots = [slot for slot, _, _ in entries]
    rows = [row for _, row, _ in entries]
    return Rows(
        count,
        entries,
        _indices(slots, device),
        None if rows == list(range(count)) else _indices(rows, device),
        _factors([weight for _, _, weight in entries], device),
        frozenset(slots),
        arrows,
    )


def _indices(values: list[int], device: Any) -> Tensor:
    import torch

    return torch.tensor(values, dtype=torch.long, device=device)


def _factors(values: list[float], device: Any) -> Tensor | None:
    import torch

    if all(value == 1.0 for value in values):
        return None
    return torch.tensor(values, dtype=torch.float32, device=device)
