"""diffusers' own classes (UNets, transformers, autoencoders), built on no device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.bases.architecture import Architecture, unknown
from adaptkit.bases.classes.layers import by_its_own_names, on_no_device

if TYPE_CHECKING:
    from collections.abc import Mapping


def build(config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> Architecture:
    """The architecture of one component of a pipeline; its checkpoint has the names of its parameters."""
    name = str(config["_class_name"])
    try:
        import diffusers
        import torch  # noqa: F401
    except ImportError:
        return unknown(tensors, "diffusers is not installed: pip install diffusers", name)
    cls: Any = getattr(diffusers, name, None)
    if cls is None or not hasattr(cls, "from_config"):
        return unknown(tensors, f"diffusers {diffusers.__version__} has no class '{name}'", name)
    try:
        own = {key: value for key, value in config.items() if key != "quantization_config"}
        model = on_no_device(lambda: cls.from_config(own))
    except Exception as error:  # noqa: BLE001  (a configuration of somebody else's may break a class in any way)
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return unknown(tensors, f"diffusers cannot build {name}: {first}", name)
    return by_its_own_names(name, model, tensors)
