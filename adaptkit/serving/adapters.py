"""`Adapters`: what a server asks of the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from adaptkit.merge.moments import Moments
    from adaptkit.serving.bank.factors import AdapterFactors
    from adaptkit.serving.bank.whole import WholeWeights
    from adaptkit.serving.composition import Reference
    from adaptkit.serving.routing import Profile


class Adapters(Protocol):
    """Where adapters come from: the registry. Called from several threads."""

    def resolve(self, ref: Reference) -> tuple[str, str]:
        """The exact version (`naval@3`) and its digest, fit for the served base, as of now."""
        ...

    def load(
        self, digest: str, read: Callable[..., AdapterFactors | WholeWeights]
    ) -> AdapterFactors | WholeWeights:
        """Open the artifact, fetched if need be, and `read` it."""
        ...

    def names(self) -> Sequence[str]:
        """Every name and alias that can be asked for."""
        ...

    def template(self, digest: str) -> str | None:
        """The chat template that an artifact brings along; None where it has none."""
        ...

    def measured(self, digest: str) -> bool:
        """Whether the inputs of an artifact were measured on its own data."""
        ...

    def profile(self, digest: str, read: Callable[[Moments], Profile]) -> Profile | None:
        """Open what was measured of an artifact and `read` it; None where nothing was."""
        ...
