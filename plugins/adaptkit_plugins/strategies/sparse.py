"""Thin each update, then add up what is left, or what agrees in sign.

TIES, DARE, Breadcrumbs, DELLA.

The family differs in two places: `thin`, which entries of one update are kept and how they are
rescaled; and `divide`, whether the sum takes all of them or only those with the elected sign, and
what it is then divided by. Tools disagree in both, so the name says whose choice it is: a bare name
follows the paper, `:mergekit` follows mergekit.

- The papers have no weight per update: here updates are weighted before the sign is elected (as
  PEFT and mergekit do), and a uniform weight is the papers' λ.
- The disjoint mean is over the updates that agree, Σ w·D / count: of two updates at weight 1 it is
  the mean where both agree and the only one where they do not.
- `:mergekit` divides TIES by the sum of the agreeing weights, so that scaling all weights, or their
  signs, changes nothing; DARE is not divided. An even vote goes to plus there, to no sign here.
- DELLA's ε is the width of the window; mergekit's epsilon is half of it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from adaptkit.extend import MergeStrategy, P, Space
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.random import Generator

    from adaptkit.algebra.sparsify import Division
    from adaptkit.extend import Array

_DENSITY = {"help": "share of each update's entries that is kept, above 0", "range": (0.0, 1.0)}
_ELECT = {
    "help": "whose sign wins: total, the weighted sum's; frequency, that of most updates",
    "choices": ("total", "frequency"),
}


@dataclass(frozen=True, slots=True)
class Density:
    """How much is kept."""

    density: float = field(default=0.5, metadata=_DENSITY)


@dataclass(frozen=True, slots=True)
class DensityElect(Density):
    """How much is kept, and who elects the sign."""

    elect: str = field(default="total", metadata=_ELECT)


@dataclass(frozen=True, slots=True)
class Tails:
    """Which ends are cut off."""

    beta: float = field(
        default=0.85,
        metadata={"help": "share of the smallest entries dropped", "range": (0.0, 1.0)},
    )
    gamma: float = field(
        default=0.01, metadata={"help": "share of the largest entries dropped", "range": (0.0, 1.0)}
    )


@dataclass(frozen=True, slots=True)
class TailsElect(Tails):
    """Which ends are cut off, and who elects the sign."""

    elect: str = field(default="total", metadata=_ELECT)


@dataclass(frozen=True, slots=True)
class Window(Density):
    """How much is kept, and how far a row's smallest and largest entries differ in that."""

    epsilon: float = field(
        default=0.1,
        metadata={
            "help": "chances of being kept run from density−ε/2 (smallest) to density+ε/2",
            "range": (0.0, 1.0),
        },
    )


@dataclass(frozen=True, slots=True)
class WindowElect(Window):
    """The window, and who elects the sign."""

    elect: str = field(default="total", metadata=_ELECT)


class Sparse(MergeStrategy[P]):
    """D = Σ wᵢ·thin(Dᵢ), over all updates or those that agree with the elected sign."""

    spaces: ClassVar[tuple[Space, ...]] = ("dense", "core", "knots")
    identity_at: ClassVar[float | None] = None
    symmetric: ClassVar[bool] = True
    divide: ClassVar[Division | None] = None
    """None: no election, all are added up."""
    tie: ClassVar[Literal[0, 1]] = 0
    """The sign where the election is even."""

    @abstractmethod
    def thin(self, tensor: Array, params: P, rng: Generator) -> Array:
        """What is kept of one update."""

    def merge(
        self,
        tensors: Sequence[Array],
        weights: Sequence[float],
        params: P,
        rngs: Sequence[Generator],
    ) -> Array:
        from adaptkit.algebra.sparsify import disjoint, elect

        terms = [
            self.thin(tensor, params, rng) * weight
            for tensor, weight, rng in zip(tensors, weights, rngs, strict=True)
        ]
        if self.divide is None:
            return sum(terms[1:], start=terms[0])
        voted: Any = params  # those of every strategy that elects have the field
        return disjoint(terms, elect(terms, voted.elect, self.tie), self.divide, weights)


# ---------------------------------------------------------------- by magnitude


class MagnitudePrune(Sparse[Density]):
    """The weighted sum of the largest entries of each."""

    name: ClassVar[str] = "magnitude_prune"
    when: ClassVar[str] = "When small entries are noise and signs agree."
    formula: ClassVar[str] = "D = Σ wᵢ trim(Dᵢ),  trim: the density share of largest |entries|"
    reference: ClassVar[str] = "https://huggingface.co/docs/peft/developer_guides/model_merging"
    params: ClassVar[type[Any]] = Density

    def thin(self, tensor: Array, params: Density, rng: Generator) -> Array:
        from adaptkit.algebra.sparsify import trim

        return trim(tensor, params.density)


class Ties(MagnitudePrune):
    """Trim, elect sign, disjoint mean."""

    name: ClassVar[str] = "ties"
    when: ClassVar[str] = "Several adapters whose signs conflict (see adaptkit diff)."
    formula: ClassVar[str] = (
        "D = Σ[i agrees] wᵢ trim(Dᵢ) / #agreeing,  i agrees: wᵢ trim(Dᵢ) has the sign of Σ wⱼ trim(Dⱼ)"
    )
    reference: ClassVar[str] = "https://arxiv.org/abs/2306.01708"
    params: ClassVar[type[Any]] = DensityElect
    divide: ClassVar[Division | None] = "count"


class TiesMergekit(Ties):
    """TIES, divided by the weights of those that agree."""

    name: ClassVar[str] = "ties:mergekit"
    when: ClassVar[str] = "To get what mergekit's ties makes."
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {"ties": {"density": "density"}}
    formula: ClassVar[str] = (
        "D = Σ[i agrees] wᵢ trim(Dᵢ) / Σ[i agrees] wᵢ,  i agrees: wᵢ trim(Dᵢ) has the sign of Σ wⱼ trim(Dⱼ)"
    )
    reference: ClassVar[str] = (
        "https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md"
    )
    divide: ClassVar[Division | None] = "weight"
    tie: ClassVar[Literal[0, 1]] = 1


# ---------------------------------------------------------------- at random


class DareLinear(Sparse[Density]):
    """The weighted sum of updates thinned at random."""

    name: ClassVar[str] = "dare_linear"
    when: ClassVar[str] = "Many adapters with redundant updates and little conflict of signs."
    formula: ClassVar[str] = "D = Σ wᵢ mᵢ⊙Dᵢ / density,  mᵢ ~ Bernoulli(density)"
    reference: ClassVar[str] = "https://arxiv.org/abs/2311.03099"
    params: ClassVar[type[Any]] = Density

    def thin(self, tensor: Array, params: Density, rng: Generator) -> Array:
        from adaptkit.algebra.sparsify import drop

        return drop(tensor, params.density, rng)


class DareTies(DareLinear):
    """TIES with DARE's drop in place of the trim."""

    name: ClassVar[str] = "dare_ties"
    when: ClassVar[str] = "Many adapters with redundant updates whose signs conflict."
    formula: ClassVar[str] = (
        "D = Σ[i agrees] wᵢ Eᵢ / #agreeing,  Eᵢ = mᵢ⊙Dᵢ / density,  i agrees: wᵢ Eᵢ has the sign of Σ wⱼ Eⱼ"
    )
    params: ClassVar[type[Any]] = DensityElect
    divide: ClassVar[Division | None] = "count"


class DareLinearMergekit(DareLinear):
    """DARE, rescaled to the size that each update had."""

    name: ClassVar[str] = "dare_linear:mergekit"
    when: ClassVar[str] = "To get what mergekit's dare_linear makes."
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {"dare_linear": {"density": "density"}}
    formula: ClassVar[str] = "D = Σ wᵢ mᵢ⊙Dᵢ · |Dᵢ|₁ / |mᵢ⊙Dᵢ|₁,  mᵢ ~ Bernoulli(density)"
    reference: ClassVar[str] = (
        "https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md"
    )

    def thin(self, tensor: Array, params: Density, rng: Generator) -> Array:
        from adaptkit.algebra.sparsify import drop, rescale_l1

        return rescale_l1(drop(tensor, params.density, rng, rescale=False), tensor)


class DareTiesMergekit(DareLinearMergekit):
    """DARE as mergekit rescales it, added up where signs agree."""

    name: ClassVar[str] = "dare_ties:mergekit"
    when: ClassVar[str] = "To get what mergekit's dare_ties makes."
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {"dare_ties": {"density": "density"}}
    formula: ClassVar[str] = (
        "D = Σ[i agrees] wᵢ Eᵢ,  Eᵢ = mᵢ⊙Dᵢ · |Dᵢ|₁ / |mᵢ⊙Dᵢ|₁,  i agrees: wᵢ Eᵢ has the sign of Σ wⱼ Eⱼ"
    )
    params: ClassVar[type[Any]] = DensityElect
    divide: ClassVar[Division | None] = "none"
    tie: ClassVar[Literal[0, 1]] = 1


# ---------------------------------------------------------------- between two tails


class Breadcrumbs(Sparse[Tails]):
    """The weighted sum of what is neither outlier nor noise."""

    name: ClassVar[str] = "breadcrumbs"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {"breadcrumbs": {"gamma": "gamma"}}
    when: ClassVar[str] = "When a few huge entries of one adapter drown the others."
    formula: ClassVar[str] = (
        "D = Σ wᵢ mᵢ⊙Dᵢ,  mᵢ drops the gamma share of largest and the beta share of smallest |entries|"
    )
    reference: ClassVar[str] = "https://arxiv.org/abs/2312.06795"
    params: ClassVar[type[Any]] = Tails

    def from_mergekit(self, method: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """Mergekit's `density` is the share that stays between the two ends."""
        params = super().from_mergekit(method, parameters)
        if params is not None and "density" in parameters:
            gamma = params.get("gamma", 0.01)
            params["beta"] = round(max(0.0, 1 - float(parameters["density"]) - float(gamma)), 12)
        return params

    def thin(self, tensor: Array, params: Tails, rng: Generator) -> Array:
        from adaptkit.algebra.sparsify import breadcrumbs

        return breadcrumbs(tensor, params.beta, params.gamma)


class BreadcrumbsTies(Breadcrumbs):
    """TIES with the breadcrumbs mask in place of the trim."""

    name: ClassVar[str] = "breadcrumbs_ties"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {"breadcrumbs_ties": {"gamma": "gamma"}}
    when: ClassVar[str] = "Outliers and conflicting signs together."
    formula: ClassVar[str] = (
        "D = Σ[i agrees] wᵢ mᵢ⊙Dᵢ / #agreeing,  i agrees: wᵢ mᵢ⊙Dᵢ has the sign of Σ wⱼ mⱼ⊙Dⱼ"
    )
    params: ClassVar[type[Any]] = TailsElect
    divide: ClassVar[Division | None] = "count"


# ---------------------------------------------------------------- at random, by magnitude


class DellaLinear(Sparse[Window]):
    """The weighted sum of updates whose large entries are likelier to stay."""

    name: ClassVar[str] = "della_linear"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "della_linear": {"density": "density", "epsilon": "epsilon"}
    }
    when: ClassVar[str] = "As dare_linear, where large entries should rarely be dropped."
    formula: ClassVar[str] = (
        "D = Σ wᵢ mᵢ⊙Dᵢ/pᵢ,  mᵢ ~ Bernoulli(pᵢ),  pᵢ = density + ε(rank/(n−1) − ½) by |entry| in its row"
    )
    reference: ClassVar[str] = "https://arxiv.org/abs/2406.11617"
    params: ClassVar[type[Any]] = Window

    def thin(self, tensor: Array, params: Window, rng: Generator) -> Array:
        from adaptkit.algebra.sparsify import magprune

        return magprune(tensor, params.density, params.epsilon, rng)


class Della(DellaLinear):
    """MAGPRUNE, elect sign, disjoint mean."""

    name: ClassVar[str] = "della"
    mergekit: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "della": {"density": "density", "epsilon": "epsilon"}
    }
    when: ClassVar[str] = "As dare_ties, where large entries should rarely be dropped."
    formula: ClassVar[str] = (
        "D = Σ[i agrees] wᵢ Eᵢ / #agreeing,  Eᵢ = mᵢ⊙Dᵢ/pᵢ as in della_linear,  i agrees: wᵢ Eᵢ has the sign of Σ wⱼ Eⱼ"
    )
    params: ClassVar[type[Any]] = WindowElect
    divide: ClassVar[Division | None] = "count"


@hookimpl
def register_merge_strategies(register: Callable[[MergeStrategy[Any]], None]) -> None:
    for strategy in (
        Ties(),
        TiesMergekit(),
        MagnitudePrune(),
        DareLinear(),
        DareTies(),
        DareLinearMergekit(),
        DareTiesMergekit(),
        Breadcrumbs(),
        BreadcrumbsTies(),
        Della(),
        DellaLinear(),
    ):
        register(strategy)
