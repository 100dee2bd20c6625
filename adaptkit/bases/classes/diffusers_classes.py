"""diffusers' own classes (UNets, transformers, autoencoders), built on no device, and whole pipelines of them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptkit.bases.architecture import Architecture, Piece, architecture_of, unknown
from adaptkit.bases.classes.layers import described
from adaptkit.bases.pipeline import component_configs, prefixed

if TYPE_CHECKING:
    from collections.abc import Mapping


def build(config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> Architecture:
    """The architecture of one component of a pipeline, or of a whole one.

    The checkpoint of a component has the names of its parameters.
    """
    name = str(config["_class_name"])
    if components := component_configs(config):
        return _pipeline(name, components, tensors)
    try:
        import diffusers
        import torch
    except ImportError:
        return unknown(tensors, "diffusers is not installed: pip install diffusers", name)
    cls: Any = getattr(diffusers, name, None)
    if cls is None or not hasattr(cls, "from_config"):
        return unknown(tensors, f"diffusers {diffusers.__version__} has no class '{name}'", name)
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            model = cls.from_config(
                {key: value for key, value in config.items() if key != "quantization_config"}
            )
    except Exception as error:  # noqa: BLE001  (a configuration of somebody else's may break a class in any way)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return unknown(tensors, f"diffusers cannot build {name}: {first}", name)
    found = described(model)
    pieces = {
        tensor: (Piece(tensor, 0, 0, shape[0] if shape else 1),)
        for tensor, shape in tensors.items()
        if tensor in found.parameters
    }
    return Architecture(
        name,
        "",
        found.parameters,
        found.layers,
        found.groups,
        found.transposed,
        found.ties,
        pieces=pieces,
        unused=tuple(tensor for tensor in tensors if tensor not in found.parameters),
    )


def _pipeline(
    name: str,
    components: Mapping[str, Mapping[str, Any]],
    tensors: Mapping[str, tuple[int, ...]],
) -> Architecture:
    """What the classes of the components say, each name under that of its component."""
    parts = {
        part: architecture_of(config, _own(tensors, part)) for part, config in components.items()
    }
    reasons = [f"{part}: {found.unknown}" for part, found in parts.items() if not found.known]
    if reasons:
        return unknown(tensors, "; ".join(reasons), name)

    def joined(table: str) -> dict[str, Any]:
        return {
            prefixed(part, key): value
            for part, found in parts.items()
            for key, value in getattr(found, table).items()
        }

    return Architecture(
        name,
        "",
        joined("parameters"),
        joined("layers"),
        joined("groups"),
        frozenset(prefixed(part, key) for part, found in parts.items() for key in found.transposed),
        {
            prefixed(part, key): prefixed(part, source)
            for part, found in parts.items()
            for key, source in found.ties.items()
        },
        pieces={
            prefixed(part, key): tuple(replace(p, tensor=prefixed(part, p.tensor)) for p in pieces)
            for part, found in parts.items()
            for key, pieces in found.pieces.items()
        },
        altered=joined("altered"),
        unused=tuple(prefixed(part, key) for part, found in parts.items() for key in found.unused),
        parts={part: found.name for part, found in parts.items()},
    )


def _own(tensors: Mapping[str, tuple[int, ...]], part: str) -> dict[str, tuple[int, ...]]:
    """The tensors of one component, as they are called in it."""
    start = f"{part}."
    return {
        name.removeprefix(start): shape for name, shape in tensors.items() if name.startswith(start)
    }
