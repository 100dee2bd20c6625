"""How many parameters full fine-tuning trains, and how many LoRA does, by rank and by which modules it adapts.

A matrix of m×n has m·n parameters; LoRA of rank r trains r·(m + n) beside it (arXiv 2106.09685).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RANKS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """One set of modules: what full fine-tuning of it trains, and LoRA at each rank."""

    targets: str
    matrices: int
    full: int
    lora: Mapping[int, int]

    def ratio(self, rank: int) -> float:
        """How many times as many parameters full fine-tuning trains."""
        return self.full / self.lora[rank]

    def to_json(self) -> dict[str, Any]:
        return {
            "targets": self.targets,
            "matrices": self.matrices,
            "full": self.full,
            "lora": {
                str(rank): {"parameters": count, "ratio": float(f"{self.ratio(rank):.6g}")}
                for rank, count in self.lora.items()
            },
        }


def of_size(size: int, ranks: Sequence[int] = RANKS) -> tuple[ParameterCount, ...]:
    """One square matrix of that size."""
    return (_count(f"one {size}×{size} matrix", [(size, size)], _checked(ranks)),)


def of_modules(
    shapes: Mapping[str, tuple[int, int]], ranks: Sequence[int] = RANKS
) -> tuple[ParameterCount, ...]:
    """The linear modules of a base: q and v alone (LoRA's paper), all of attention, every one (QLoRA's paper)."""
    found = []
    for label, wanted in (
        ("q and v", ("q_proj", "v_proj")),
        ("attention", ("q_proj", "k_proj", "v_proj", "o_proj")),
        ("all linear", ()),
    ):
        chosen = [
            shape
            for name, shape in shapes.items()
            if not wanted or name.rpartition(".")[2] in wanted
        ]
        if chosen:
            found.append(_count(label, chosen, _checked(ranks)))
    return tuple(found)


def _count(label: str, shapes: Sequence[tuple[int, int]], ranks: Sequence[int]) -> ParameterCount:
    return ParameterCount(
        label,
        len(shapes),
        sum(m * n for m, n in shapes),
        {rank: sum(rank * (m + n) for m, n in shapes) for rank in ranks},
    )


def _checked(ranks: Sequence[int]) -> tuple[int, ...]:
    if not ranks or min(ranks) < 1:
        what = f"--rank is {min(ranks)}" if ranks else "no rank is given"
        raise AdaptkitError(what, why="a rank is at least 1", fix="--rank 8")
    return tuple(sorted(set(ranks)))
