"""`MergeStrategy`: how the updates of several adapters become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from adaptkit.extend.method import LowRank

    Array = np.ndarray[Any, np.dtype[Any]]

P = TypeVar("P")
Space = Literal["core", "knots", "dense", "factors"]


@dataclass(frozen=True, slots=True)
class NoParams:
    """For a strategy that has nothing to set."""


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """G = E[x xᵀ] of what goes into a module, as diag(`diagonal`) + `factor`·`factor`ᵀ (n, and n×k)."""

    diagonal: Array
    factor: Array


class MergeStrategy(ABC, Generic[P]):
    """How the updates of several adapters become one.

    `params` is a frozen dataclass; its fields become `--param` options, each documented by
    `field(metadata={"help": …, "range": (low, high)})`.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    """One line, such as `D = Σ wᵢ Dᵢ`."""
    when: ClassVar[str] = ""
    """When to use it, one line for `adaptkit strategies`."""
    reference: ClassVar[str]
    """URL of the paper or source."""
    params: ClassVar[type[Any]] = NoParams
    spaces: ClassVar[tuple[Space, ...]] = ("core",)
    """Where it has a meaning; the first is the paper's own and the default."""
    arity: ClassVar[tuple[int, int | None]] = (1, None)
    """Fewest and most adapters (None: no limit)."""
    identity_at: ClassVar[float | None] = 1.0
    """The weight at which one adapter alone comes back as itself; None when it does not."""
    symmetric: ClassVar[bool] = False
    """Whether permuting the adapters together with their weights changes nothing."""
    rank_rule: ClassVar[Literal["asked", "parents", "whole"]] = "asked"
    """The rank kept: `--rank`, else whole; `--rank`, else the parents' largest; always whole."""
    needs: ClassVar[Literal["nothing", "factors", "moments"]] = "nothing"
    """What it must have beside tensors of one shape: the updates' own factors, or moments of inputs as well; then
    `merge_factors` does the work."""

    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """mergekit's `merge_method`s that it makes, each with what mergekit's parameters are called here."""

    def from_mergekit(self, method: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """Its parameters where it makes what that `merge_method` makes; None where it does not."""
        names = self.mergekit.get(method)
        if names is None:
            return None
        return {ours: parameters[theirs] for theirs, ours in names.items() if theirs in parameters}

    def coefficients(self, weights: Sequence[float], params: P) -> Sequence[float] | None:
        """When the result is Σ cᵢ·Dᵢ, the cᵢ.

        The core then stacks factors, exactly and without arithmetic.
        """
        return None

    @abstractmethod
    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: P,
        rngs: Sequence[np.random.Generator],
    ) -> Array:
        """Combine one module's tensors, all of one shape, in the space at hand. Pure.

        `rngs[i]` is derived from (seed, digest of adapter i, module), so that order does not change
        a draw.
        """

    def merge_factors(
        self,
        deltas: Sequence[LowRank],
        weights: Sequence[float],
        params: P,
        rngs: Sequence[np.random.Generator],
        moments: Sequence[Moment] = (),
    ) -> LowRank:
        """Combine one module's updates, given as factors. Pure; biases are added later.

        Where it needs factors, they are balanced (B = U√S, A = √S·Vᵀ); where it needs moments, factors are as they
        were written, and there is a moment for each. Where a module's inputs have none (an embedding, fused experts), `merge` is
        called instead, as if all inputs counted alike.
        """
        raise NotImplementedError
