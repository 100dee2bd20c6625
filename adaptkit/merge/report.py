"""What a merge reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from adaptkit.algebra.loss import Loss


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge made.

    Ranks by module, `error` against the untruncated result, `from_sum` against the exact sum.
    """

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
