"""What a comparison measures: of each adapter, and of each pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Spectrum:
    """One adapter: its Frobenius norm, ranks, and each module's energy and singular values."""

    label: str
    norm: float
    rank: int
    rank_for_90: int
    """The largest rank that a module needs for 90 % of its energy."""
    energy: Mapping[str, float]
    values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Pair:
    """How two adapters compare.

    The cosine of their updates, and the share of entries with equal signs, in all and by module.

    `row_overlap` and `column_overlap` say how much of the smaller space of inputs that one reads (outputs that it
    writes) lies in the other's, from 0 to 1, as the mean over the modules; `…_by_chance` is that of random ones.
    """

    one: str
    other: str
    cosine: float
    same_sign: float
    shared_modules: int
    cosines: Mapping[str, float]
    same_signs: Mapping[str, float]
    row_overlap: float = 0.0
    column_overlap: float = 0.0
    row_overlap_by_chance: float = 0.0
    column_overlap_by_chance: float = 0.0
