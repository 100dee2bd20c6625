"""The relative distance of two updates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Loss:
    """How far the stored update is from another, relative to it: per module and in total; None is undefined."""

    total: float | None
    modules: Mapping[str, float | None]


def relative(apart: Sequence[float], size: Sequence[float]) -> float | None:
    """√Σnum² / √Σden²; 0 when both are 0, None when only the denominator is."""
    num, den = math.sqrt(math.fsum(x * x for x in apart)), math.sqrt(math.fsum(x * x for x in size))
    return num / den if den else None if num else 0.0
