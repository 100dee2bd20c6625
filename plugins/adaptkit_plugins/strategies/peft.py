"""What PEFT's `add_weighted_adapter` computes, kept for parity and comparison.

`peft:linear` adds A and B apart, so cross terms appear that belong to no parent: prefer `linear`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from adaptkit.extend import MergeStrategy, NoParams, Space
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.random import Generator

    from adaptkit.extend import Array


class PeftLinear(MergeStrategy[NoParams]):
    """A = Σ ±√|wᵢsᵢ|·Aᵢ and B = Σ √|wᵢsᵢ|·Bᵢ, in the precision of the file."""

    name: ClassVar[str] = "peft:linear"
    formula: ClassVar[str] = "A = Σ ±√|wᵢsᵢ| Aᵢ,  B = Σ √|wᵢsᵢ| Bᵢ"
    reference: ClassVar[str] = "https://huggingface.co/docs/peft/developer_guides/model_merging"
    spaces: ClassVar[tuple[Space, ...]] = ("factors",)
    symmetric: ClassVar[bool] = True

    def merge(
        self, tensors: Sequence[Array], weights: Sequence[float], params: NoParams, rngs: Sequence[Generator]
    ) -> Array:
        import numpy as np

        # torch multiplies by a float32 tensor of weights: the same rounding here gives the same bits.
        terms = [tensor * np.float32(weight) for tensor, weight in zip(tensors, weights, strict=True)]
        return sum(terms[1:], start=terms[0])


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    register(PeftLinear())
