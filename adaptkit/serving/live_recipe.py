"""A live composition as a recipe: what a server adds up per request, written down for a merge.

A stack is the recipe of the exact weighted sum, an average the same with its weights divided by the
number of parts. `parallel` is several results and so no one recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadRecipe
from adaptkit.refs import DigestRef, WeightedRef

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.serving.composition import Composition, Reference

STRATEGY = "cat"
"""The merge strategy that gives the exact weighted sum and never cuts its rank."""


@dataclass(frozen=True, slots=True)
class LiveRecipe:
    """A live composition in exact versions, and the sum that it is."""

    model: str
    """What a request names to get it, such as `naval@3+medic@1=0.4`."""
    labels: tuple[str, ...]
    sources: tuple[WeightedRef, ...]

    def document(self) -> dict[str, Any]:
        """The recipe as `adaptkit compose` reads it."""
        adapters = [{"ref": str(source.ref), "weight": source.weight} for source in self.sources]
        return {"adapters": adapters, "strategy": STRATEGY}

    def to_json(self) -> dict[str, Any]:
        return {"model": self.model, "recipe": self.document()}

    def as_yaml(self) -> str:
        """The recipe as a file that says which versions its digests are."""
        import yaml

        lines = [f"# served as the model {self.model}"]
        lines += [
            f"# {source.ref} is {label}"
            for label, source in zip(self.labels, self.sources, strict=True)
        ]
        body: str = yaml.safe_dump(self.document(), sort_keys=False, allow_unicode=True)
        return "\n".join([*lines, body])


def live_recipe(
    composition: Composition, resolve: Callable[[Reference], tuple[str, str]]
) -> LiveRecipe:
    """Pin each part to the version that `resolve` finds (label and digest), and write the sum down."""
    if composition.kind in {"arrow", "auto"}:
        raise BadRecipe(
            f"cannot write '{composition}' down as a recipe",
            why="its weights depend on the prompt, and those of a recipe are fixed",
            fix="adaptkit distil makes one adapter of several, each kept on its own data",
        )
    rows = composition.rows()
    if len(rows) != 1:
        raise BadRecipe(
            f"cannot write '{composition}' down as a recipe",
            why=f"it is {len(rows)} results, and a recipe is one",
            fix="one recipe for each part",
        )
    (row,) = rows
    if not row:
        raise BadRecipe(
            f"cannot write '{composition}' down as a recipe",
            why="it is the base, without any adapter",
            fix="name an adapter, such as naval+medic=0.4",
        )
    pinned = [resolve(part.ref) for part in row]
    return LiveRecipe(
        composition.pinned({part.ref: label for part, (label, _) in zip(row, pinned, strict=True)}),
        tuple(label for label, _ in pinned),
        tuple(
            WeightedRef(DigestRef(digest), part.weight)
            for part, (_, digest) in zip(row, pinned, strict=True)
        ),
    )
