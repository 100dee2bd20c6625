"""diffusers' own classes (UNets, transformers, autoencoders), built on no device."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from adaptkit.bases.architecture import Architecture, Piece, unknown
from adaptkit.bases.classes.layers import described

if TYPE_CHECKING:
    from collections.abc import Mapping


def build(config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> Architecture:
    """The architecture of one component of a pipeline; its checkpoint has the names of its parameters."""
    name = str(config["_class_name"])
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
