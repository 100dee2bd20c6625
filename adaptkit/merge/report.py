"""What a merge reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptkit.io.safetensors.reader import STORED_DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.algebra.loss import Loss
    from adaptkit.merge.recipe import Recipe


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

    @property
    def how(self) -> str:
        """The strategy, and the space that it worked in where that is not the usual one."""
        return self.strategy if self.space == "core" else f"{self.strategy} in {self.space} space"


def stored_dtype(recipe: Recipe, sources: Sequence[OpenAdapter]) -> str:
    """The dtype of the recipe, or the one that holds all updates, as torch promotes: two different halves give F32."""
    if recipe.dtype:
        return STORED_DTYPES[recipe.dtype]
    found = {source.adapter.header[key].dtype for source in sources for key in source.delta_keys()}
    if len(found) == 1:
        return found.pop()
    return "F64" if "F64" in found else "F32"
