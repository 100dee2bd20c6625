"""An opened adapter with the method that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.adapters.adapter import Adapter
    from adaptkit.bases.weights import BaseWeights
    from adaptkit.extend import AdapterMethod, Moment


@dataclass(frozen=True)
class OpenAdapter:
    """One opened adapter of a merge, with its method, and the base where its update needs it.

    Its weight is in the recipe. `moment(module, inputs)` is what was measured of a module's inputs, for strategies
    that need it; None where they are no vectors.
    """

    adapter: Adapter
    method: AdapterMethod
    digest: str
    base: BaseWeights | None = None
    moment: Callable[[str, int], Moment | None] | None = None

    @property
    def label(self) -> str:
        return self.adapter.label

    @cached_property
    def needs_weights(self) -> bool:
        """Whether its update depends on the weights it changes, and has their full rank."""
        return self.method.needs(self.adapter) == "weights"

    @cached_property
    def extras(self) -> tuple[str, ...]:
        """The keys of the tensors that are no part of an update."""
        return self.method.extras(self.adapter)

    def delta_keys(self) -> list[str]:
        """The keys of the tensors that its update is made of."""
        extras = set(self.extras)
        return [key for key in self.adapter.header if key not in extras]
