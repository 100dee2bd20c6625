"""What happens to one tensor of a base."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adaptkit.extend import Module


@dataclass(frozen=True, slots=True)
class Change:
    """`count` rows of a tensor, from `at`, that are rows of a module from `row`; `whole` when it is all of both."""

    module: Module
    at: int
    row: int
    count: int
    whole: bool


@dataclass(slots=True)
class Tensor:
    """One tensor of the result: where it comes from (nowhere, for what only the adapter has), and what happens to it."""

    source: str
    shape: tuple[int, ...]
    dtype: str
    changes: list[Change] = field(default_factory=list)
    biases: list[Module] = field(default_factory=list)
    replaced_by: str = ""
    rows_from: tuple[str, tuple[int, ...]] = ("", ())
    padded: bool = False
    """Whether zeros are added behind what the base has, up to the shape."""

    @property
    def changed(self) -> bool:
        return bool(
            self.changes or self.biases or self.replaced_by or self.rows_from[0] or self.padded
        )
