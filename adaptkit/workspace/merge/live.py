"""Write a live composition down as a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.serving.composition import parse
from adaptkit.serving.live_recipe import live_recipe as write_down
from adaptkit.workspace.lookup.artifacts import find_version

if TYPE_CHECKING:
    from adaptkit.serving.composition import Reference
    from adaptkit.serving.live_recipe import LiveRecipe
    from adaptkit.workspace.context.context import Context


def live_recipe(context: Context, model: str) -> LiveRecipe:
    """What a request names as its model, such as `naval+medic=0.4`, as the recipe of the same sum.

    Every part is pinned to the version that it means now. Merging `sources` with the strategy `cat`
    gives the logits that `adaptkit serve` computes for the model.
    """

    def resolve(ref: Reference) -> tuple[str, str]:
        version = find_version(context, ref)
        return version.ref, version.digest

    return write_down(parse(model), resolve)
