"""A diffusers pipeline as one base: the components that adapters change, each tensor under its component's name.

Its folder has a model_index.json and a folder for each component. Its tensors are those of the diffusion models and
text encoders, called `unet.…` or `text_encoder.…` as LoRA files name them, so identity, fit and bakes are those of any
other base. Autoencoders, safety checkers, schedulers and tokenizers are no part of it: no adapter changes them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadBase
from adaptkit.extend.artifact_files import PIPELINE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

COMPONENTS = "_components"
"""The key of a pipeline's configuration that holds the configurations of its components by name."""
# the `_lora_loadable_modules` of diffusers 0.42, with those of its pipelines in two stages
_CHANGED = re.compile(
    r"(?:unet|transformer|text_encoder|prior|decoder)(?:_\d+)?|transformer_ref|text_conditioner"
)


def is_pipeline(folder: Path) -> bool:
    """Whether a folder is a diffusers pipeline."""
    return (folder / PIPELINE).is_file()


def is_component(name: str) -> bool:
    """Whether a component of this name is one that adapters change."""
    return _CHANGED.fullmatch(name) is not None


def components_of(folder: Path, index: Mapping[str, Any]) -> dict[str, str]:
    """The components that adapters change, with the class that model_index.json names for each."""
    named = {
        name: str(value[1])
        for name, value in sorted(index.items())
        if is_component(name) and isinstance(value, list) and len(value) == 2 and value[1]
    }
    if not named:
        raise BadBase(
            f"the pipeline {folder} has nothing that an adapter changes",
            why=f"its {PIPELINE} names no unet, transformer or text encoder",
            fix="download the model again, or give another folder",
        )
    for name in named:
        if not (folder / name).is_dir():
            raise BadBase(
                f"the pipeline {folder} is incomplete",
                why=f"its {PIPELINE} names {name}, and that folder is missing",
                fix="download the model again",
            )
    return named


def configuration(
    index: Mapping[str, Any], parts: Mapping[str, tuple[str, Mapping[str, Any]]]
) -> dict[str, Any]:
    """One configuration of model_index.json and its components, each given with its class and its own configuration."""
    return {
        **index,
        COMPONENTS: {
            name: dict(config) if "_class_name" in config else {"architectures": [cls], **config}
            for name, (cls, config) in parts.items()
        },
    }


def component_configs(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The configurations of a pipeline's components by name; nothing for any other base."""
    return dict(config.get(COMPONENTS) or {})


def split(name: str, components: Iterable[str]) -> tuple[str, str]:
    """A tensor's component and its name there; no component for what has none."""
    first, _, rest = name.partition(".")
    return (first, rest) if first in components else ("", name)


def prefixed(component: str, name: str) -> str:
    """A tensor's name in the pipeline."""
    return f"{component}.{name}" if component else name
