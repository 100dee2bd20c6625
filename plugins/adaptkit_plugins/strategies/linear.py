"""The weighted sum of updates, exact at full rank, optimal at any other.

One strategy under three spellings: `linear` keeps the whole rank unless `--rank` is given, `cat`
always keeps it, `svd` cuts to the largest rank among the parents unless `--rank` is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from adaptkit.extend import MergeStrategy, NoParams, Space
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from numpy.random import Generator

    from adaptkit.extend import Array


class Linear(MergeStrategy[NoParams]):
    """D = Σ wᵢ·Dᵢ (task arithmetic)."""

    name: ClassVar[str] = "linear"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {"linear": {}, "task_arithmetic": {}}
    when: ClassVar[str] = (
        "The first thing to try: exact, and nothing is lost until you cut the rank."
    )
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
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    when: ClassVar[str] = "When the exact sum must stay whole, whatever rank it has."
    rank_rule: ClassVar[Literal["asked", "parents", "whole"]] = "whole"


class Svd(Linear):
    """D = Σ wᵢ·Dᵢ, cut to the largest rank among the parents."""

    name: ClassVar[str] = "svd"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    when: ClassVar[str] = (
        "The exact sum at the size of one adapter; the loss of the cut is printed."
    )
    rank_rule: ClassVar[Literal["asked", "parents", "whole"]] = "parents"


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    for strategy in (Linear(), Cat(), Svd()):
        register(strategy)
