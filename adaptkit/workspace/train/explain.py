"""What explains a training: how few parameters it takes, how its loss fell, what was forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import NotFound
from adaptkit.training.parameters import RANKS, of_modules, of_size
from adaptkit.workspace.lookup.artifacts import find_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.training.parameters import ParameterCount
    from adaptkit.workspace.context.context import Context

FORGETTING = ".forgetting"


def parameters(
    context: Context,
    base: str | None = None,
    *,
    size: int = 4096,
    ranks: Sequence[int] = RANKS,
) -> tuple[ParameterCount, ...]:
    """What full fine-tuning and LoRA train: of a base's linear modules, or else of one matrix of `size`."""
    from adaptkit.bases.weights import BaseWeights
    from adaptkit.workspace.train.evaluate import base_folder

    if base is None:
        return of_size(size, ranks)
    with BaseWeights.open(base_folder(context, base), context.home.cache) as weights:
        known = weights.architecture()
        linear = {
            name: (shape[0], shape[1])
            for name, kind in known.layers.items()
            if kind in {"linear", "conv1d"}
            and known.head not in {name, f"{name}.weight"}
            and len(shape := known.parameters.get(f"{name}.weight", ())) == 2
        }
    if not linear:
        raise NotFound("linear module", base, (), fix=known.unknown or "give another base")
    return of_modules(linear, ranks)


def loss_curves(
    context: Context, adapters: Sequence[str]
) -> Mapping[str, Sequence[tuple[int, float]]]:
    """The loss by step of versions that were trained here; `NotFound` names one that was not."""
    found = {}
    for ref in adapters:
        version = find_version(context, ref)
        curve = context.registry.manifest(version.digest).facts.get("training", {}).get("curve", [])
        points = [(step, float(loss)) for step, loss in curve]
        if not points:
            raise NotFound(
                "loss curve", version.ref, (), fix="adaptkit train records one with what it trains"
            )
        found[version.ref] = points
    return found


def forgotten(context: Context, adapters: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
    """What versions lost of each suite, as `evaluate` measured it; `NotFound` says how to measure it."""
    found = {}
    for ref in adapters:
        version = find_version(context, ref)
        lost = {
            name.removesuffix(FORGETTING): value
            for name, value in sorted(version.metrics.items())
            if name.endswith(FORGETTING)
        }
        if not lost:
            raise NotFound(
                "measured forgetting",
                version.ref,
                (),
                fix=f"adaptkit eval {version.ref} --baseline base --suite FILE --base DIR",
            )
        found[version.ref] = lost
    return found
