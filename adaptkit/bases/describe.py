"""What a base's class says of it: the one authority on parameters, ties, layers and names, without any weights.

Notable choices:
- the own class of transformers, diffusers or timm is built on no device; nothing that the folder brings is run
- ties are read from the built model (which parameters are one object), never from a single key of the configuration
- what was found is remembered by content (configuration, tensor names and shapes, library versions): in the process,
  and as one small JSON file where a cache folder is given
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from importlib import metadata
from threading import RLock
from typing import TYPE_CHECKING, Any

from adaptkit.bases.architecture import Architecture, unknown
from adaptkit.bases.pipeline import component_configs
from adaptkit.errors import StoreError
from adaptkit.io.files import atomic_write
from adaptkit.types import canonical_json, digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FORMAT = 6  # of what is remembered; a change of meaning counts it up
_LARGEST = 100_000_000  # bytes of a remembered file that are read
_MOST = 64  # architectures that a process remembers
_REMEMBERED: dict[str, Architecture] = {}
_TURN = RLock()
"""One thread describes at a time, and the next finds what it found."""


def architecture_of(
    config: Mapping[str, Any],
    tensors: Mapping[str, tuple[int, ...]],
    *,
    task: str = "",
    cache: Path | None = None,
) -> Architecture:
    """What the class that a configuration names says of a checkpoint with these tensors.

    `task` (PEFT's `task_type`) asks for the class that this task has for the configuration, instead of the one that
    the configuration names.
    """
    library = library_of(config)
    key = digest_of(
        [
            _FORMAT,
            {name: value for name, value in config.items() if name != "_name_or_path"},
            sorted([name, list(shape)] for name, shape in tensors.items()),
            task,
            library,
            _version(library),
            _version("transformers") if component_configs(config) else "",
        ]
    )
    with _TURN:
        found = _REMEMBERED.get(key)
        if found is None or (cache is not None and not _file(key, cache).exists()):
            found = found or _recall(key, cache) or _build(library, config, tensors, task)
            _remember(key, found, cache)
        if len(_REMEMBERED) >= _MOST:
            _REMEMBERED.clear()
        _REMEMBERED[key] = found
        return found


def library_of(config: Mapping[str, Any]) -> str:
    """Which library's classes a configuration speaks of: `transformers`, `diffusers`, `timm`, or none."""
    keys = {"model_type": "transformers", "_class_name": "diffusers", "architecture": "timm"}
    return next((name for key, name in keys.items() if isinstance(config.get(key), str)), "")


def _build(
    library: str, config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]], task: str
) -> Architecture:
    if library == "transformers":
        from adaptkit.bases.classes.transformers_classes import build

        return build(config, tensors, task)
    if library == "diffusers" and (components := component_configs(config)):
        from adaptkit.bases.classes.pipelines import joined, tensors_of

        parts = {
            part: architecture_of(own, tensors_of(tensors, part))
            for part, own in components.items()
        }
        return joined(str(config["_class_name"]), parts, tensors)
    if library == "diffusers":
        from adaptkit.bases.classes.diffusers_classes import build as build_part

        return build_part(config, tensors)
    if library == "timm":
        from adaptkit.bases.classes.timm_classes import build as build_timm

        return build_timm(config, tensors)
    return unknown(tensors, "its config.json names no model_type, _class_name or architecture")


@cache
def _version(library: str) -> str:
    try:
        return metadata.version(library) if library else ""
    except metadata.PackageNotFoundError:
        return ""


def _file(key: str, cache: Path) -> Path:
    return cache / f"architecture-{key.removeprefix('sha256:')[:40]}.json"


def _recall(key: str, cache: Path | None) -> Architecture | None:
    if cache is not None:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            file = _file(key, cache)
            if file.stat().st_size <= _LARGEST:
                data = json.loads(file.read_bytes())
                if data["key"] == key:
                    return Architecture.from_json(data["architecture"])
    return None


def _remember(key: str, found: Architecture, cache: Path | None) -> None:
    if cache is not None and found.known:
        with suppress(OSError, StoreError):
            cache.mkdir(parents=True, exist_ok=True)
            data = {"key": key, "architecture": found.to_json()}
            atomic_write(_file(key, cache), canonical_json(data).encode())
