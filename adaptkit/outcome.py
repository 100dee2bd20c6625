"""What goes into a merge and what comes out of it: sources, losses, the report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from adaptkit.adapter import Adapter
    from adaptkit.extend import AdapterMethod
    from adaptkit.weights import BaseWeights


@dataclass(frozen=True, slots=True)
class Source:
    """One adapter of a merge, opened, with the method that reads it, and the base where its update needs it.

    Its weight stands in the recipe.
    """

    adapter: Adapter
    method: AdapterMethod
    digest: str
    base: BaseWeights | None = None

    @property
    def label(self) -> str:
        return self.adapter.label

    def delta_keys(self) -> list[str]:
        """The keys of the tensors that its update is made of."""
        extras = set(self.method.extras(self.adapter))
        return [key for key in self.adapter.header if key not in extras]


@dataclass(frozen=True, slots=True)
class Loss:
    """How far the stored update is from another, relative to it: per module and in total; None is undefined."""

    total: float | None
    modules: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge made: ranks by module, `error` against the untruncated result, `from_sum` against the exact sum."""

    strategy: str
    space: str
    rank: int | None
    ranks: Mapping[str, int]
    dtype: str
    error: Loss
    from_sum: float | None
    dropped: tuple[str, ...]


def promote(dtypes: Iterable[str]) -> str:
    """The dtype that holds all of these, as torch promotes: two different halves give F32."""
    found = set(dtypes)
    if len(found) == 1:
        return found.pop()
    return "F64" if "F64" in found else "F32"


def relative(apart: Sequence[float], size: Sequence[float]) -> float | None:
    """√Σnum² / √Σden²; 0 when both are 0, None when only the denominator is."""
    num, den = math.sqrt(math.fsum(x * x for x in apart)), math.sqrt(math.fsum(x * x for x in size))
    return num / den if den else None if num else 0.0
