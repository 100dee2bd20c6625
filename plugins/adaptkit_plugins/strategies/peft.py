"""What PEFT's `add_weighted_adapter` computes, kept for parity and comparison.

Every `combination_type`.

Those without `_svd` add A and B apart, so cross terms appear that belong to no parent: prefer the
strategies without `peft:`. Deterministic ones have PEFT's bits for adapters in float32; the `_svd`
ones agree within 1e-5 of the update, in other factors. DARE draws from adaptkit's own generators,
so its masks are other ones than PEFT's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adaptkit.extend import MergeStrategy, NoParams, P, Space
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.random import Generator

    from adaptkit.extend import Array

_DOCS = "https://huggingface.co/docs/peft/developer_guides/model_merging"


@dataclass(frozen=True, slots=True)
class Density:
    """How much is kept."""

    density: float = field(
        default=0.5, metadata={"help": "share of the entries that is kept", "range": (0.0, 1.0)}
    )


@dataclass(frozen=True, slots=True)
class DensityElect(Density):
    """How much is kept, and who elects the sign."""

    majority_sign_method: str = field(
        default="total",
        metadata={
            "help": "whose sign wins: of the sum, or of most",
            "choices": ("total", "frequency"),
        },
    )


class Peft(MergeStrategy[P]):
    """One combination type on factors.

    With `svd`, the same on updates, cut to the largest rank of the parents.
    """

    reference: ClassVar[str] = _DOCS
    spaces: ClassVar[tuple[Space, ...]] = ("factors",)
    identity_at: ClassVar[float | None] = None
    symmetric: ClassVar[bool] = True
    prune: ClassVar[Literal["", "magnitude", "random"]] = ""
    elects: ClassVar[bool] = False

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: P,
        rngs: Sequence[Generator],
    ) -> Array:
        import numpy as np

        chosen: Any = params
        kept = [self._pruned(t, chosen, rng) for t, rng in zip(tensors, rngs, strict=True)]
        # torch multiplies by a float32 tensor of weights: the same rounding here gives the same bits.
        terms = [t * np.float32(w) for t, w in zip(kept, weights, strict=True)]
        zero = np.zeros_like(terms[0])  # as torch.sum begins, which distinguishes −0 from 0
        if not self.elects:
            return sum(terms, start=zero)
        agreeing = majority(kept, chosen.majority_sign_method)
        terms = [t * mask for t, mask in zip(terms, agreeing, strict=True)]
        counts = np.maximum(np.sum(agreeing, axis=0), 1).astype(terms[0].dtype)
        mean: Array = sum(terms, start=zero) / counts
        return mean

    def _pruned(self, tensor: Array, params: Any, rng: Generator) -> Array:
        import numpy as np

        if not self.prune or params.density >= 1:
            return tensor
        if self.prune == "random":
            kept: Array = (
                tensor
                * (rng.random(tensor.shape) < params.density)
                / tensor.dtype.type(params.density or 1)
            )
            return kept
        mask = np.zeros(tensor.size, tensor.dtype)
        mask[
            np.argsort(-np.abs(tensor).reshape(-1), kind="stable")[
                : int(params.density * tensor.size)
            ]
        ] = 1
        largest: Array = tensor * mask.reshape(tensor.shape)
        return largest


def majority(tensors: Sequence[Array], method: str) -> Array:
    """For each tensor, where its sign is the elected one.

    An even vote elects plus, and zero agrees with none.
    """
    import numpy as np

    signs = np.sign(np.stack(tensors))
    votes = sum(tensors[1:], start=tensors[0]) if method == "total" else signs.sum(axis=0)
    agreeing: Array = signs == np.where(votes >= 0, 1, -1)
    return agreeing


class PeftLinear(Peft[NoParams]):
    """A = Σ ±√|wᵢsᵢ|·Aᵢ and B = Σ √|wᵢsᵢ|·Bᵢ, in the precision of the file."""

    name: ClassVar[str] = "peft:linear"
    when: ClassVar[str] = "To get what PEFT's linear makes."
    formula: ClassVar[str] = "A = Σ ±√|wᵢsᵢ| Aᵢ,  B = Σ √|wᵢsᵢ| Bᵢ"
    identity_at: ClassVar[float | None] = 1.0


class PeftMagnitudePrune(Peft[Density]):
    """The same on the largest entries of each factor."""

    name: ClassVar[str] = "peft:magnitude_prune"
    when: ClassVar[str] = "To get what PEFT's magnitude_prune makes."
    formula: ClassVar[str] = "A = Σ ±√|wᵢsᵢ| topₖ(Aᵢ),  B = Σ √|wᵢsᵢ| topₖ(Bᵢ)"
    params: ClassVar[type[Any]] = Density
    prune: ClassVar[Literal["", "magnitude", "random"]] = "magnitude"


class PeftTies(Peft[DensityElect]):
    """TIES on each factor: signs elected without weights, sums divided by how many agree."""

    name: ClassVar[str] = "peft:ties"
    when: ClassVar[str] = "To get what PEFT's ties makes."
    formula: ClassVar[str] = "A = Σ ±√|wᵢsᵢ| [sgn = elected] topₖ(Aᵢ) / count, B alike"
    params: ClassVar[type[Any]] = DensityElect
    prune: ClassVar[Literal["", "magnitude", "random"]] = "magnitude"
    elects: ClassVar[bool] = True


class PeftDareLinear(Peft[Density]):
    """DARE on each factor, rescaled by 1/density."""

    name: ClassVar[str] = "peft:dare_linear"
    when: ClassVar[str] = "To get what PEFT's dare_linear makes."
    formula: ClassVar[str] = "A = Σ ±√|wᵢsᵢ| drop(Aᵢ)/d,  B = Σ √|wᵢsᵢ| drop(Bᵢ)/d"
    params: ClassVar[type[Any]] = Density
    prune: ClassVar[Literal["", "magnitude", "random"]] = "random"


class PeftDareTies(Peft[DensityElect]):
    """DARE, then the election of TIES, on each factor."""

    name: ClassVar[str] = "peft:dare_ties"
    when: ClassVar[str] = "To get what PEFT's dare_ties makes."
    formula: ClassVar[str] = "A = Σ ±√|wᵢsᵢ| [sgn = elected] drop(Aᵢ)/d / count, B alike"
    params: ClassVar[type[Any]] = DensityElect
    prune: ClassVar[Literal["", "magnitude", "random"]] = "random"
    elects: ClassVar[bool] = True


class PeftSum(MergeStrategy[NoParams]):
    """`cat` and `svd`, where PEFT computes the sum of updates too.

    Ours is exact where PEFT's is rounded.
    """

    formula: ClassVar[str] = "D = Σ wᵢ Dᵢ"
    reference: ClassVar[str] = _DOCS
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
        return sum((w * t for w, t in zip(weights, tensors, strict=True)), start=0.0 * tensors[0])


class PeftCat(PeftSum):
    """Whole."""

    name: ClassVar[str] = "peft:cat"
    when: ClassVar[str] = "To get what PEFT's cat makes."
    rank_rule: ClassVar[Literal["asked", "parents", "whole"]] = "whole"


class PeftSvd(PeftSum):
    """Cut to the largest rank of the parents."""

    name: ClassVar[str] = "peft:svd"
    when: ClassVar[str] = "To get what PEFT's svd makes."
    rank_rule: ClassVar[Literal["asked", "parents", "whole"]] = "parents"


def _on_updates(kind: type[Peft[Any]]) -> MergeStrategy[Any]:
    """The `_svd` form of a combination type: written-out updates instead of factors."""
    made = type(
        f"{kind.__name__}Svd",
        (kind,),
        {
            "__doc__": f"{kind.name} on updates, cut to the largest rank of the parents.",
            "name": f"{kind.name}_svd",
            "when": f"To get what PEFT's {kind.name.removeprefix('peft:')}_svd makes.",
            "formula": kind.formula.partition(",")[0]
            .replace("A = ", "D = ")
            .replace("±√|wᵢsᵢ|", "wᵢ")
            .replace("Aᵢ", "Dᵢ"),
            "spaces": ("dense",),
            "rank_rule": "parents",
        },
    )
    strategy: MergeStrategy[Any] = made()
    return strategy


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    kinds: tuple[type[Peft[Any]], ...] = (
        PeftMagnitudePrune,
        PeftTies,
        PeftDareLinear,
        PeftDareTies,
    )
    for strategy in (
        PeftLinear(),
        PeftCat(),
        PeftSvd(),
        *(kind() for kind in kinds),
        *map(_on_updates, kinds),
    ):
        register(strategy)
