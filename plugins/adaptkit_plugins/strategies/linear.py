"""The weighted sum of updates, exact at full rank, optimal at any other.

One strategy under three spellings: `linear` keeps the whole rank unless `--rank` is given, `cat`
always keeps it, `svd` cuts to the largest rank among the parents unless `--rank` is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from adaptkit.extend import MergeStrategy, NoParams, Space
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.random import Generator

    from adaptkit.extend import Array


class Linear(MergeStrategy[NoParams]):
    """D = Σ wᵢ·Dᵢ (task arithmetic)."""

    name: ClassVar[str] = "linear"
    formula: ClassVar[str] = "D = Σ wᵢ Dᵢ"
    reference: ClassVar[str] = "https://arxiv.org/abs/2212.04089"
    spaces: ClassVar[tuple[Space, ...]] = ("core", "knots", "dense")
    symmetric: ClassVar[bool] = True

    def coefficients(self, weights: Sequence[float], params: NoParams) -> Sequence[float]:
        return weights

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: NoParams,
        rngs: Sequence[Generator],
    ) -> Array:
        terms = [tensor * weight for tensor, weight in zip(tensors, weights, strict=True)]
        return sum(terms[1:], start=terms[0])


class Cat(Linear):
    """D = Σ wᵢ·Dᵢ, always whole."""

    name: ClassVar[str] = "cat"
    rank_rule: ClassVar[Literal["asked", "parents", "whole"]] = "whole"


class Svd(Linear):
    """D = Σ wᵢ·Dᵢ, cut to the largest rank among the parents."""

    name: ClassVar[str] = "svd"
    rank_rule: ClassVar[Literal["asked", "parents", "whole"]] = "parents"


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    for strategy in (Linear(), Cat(), Svd()):
        register(strategy)
