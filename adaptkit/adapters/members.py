"""Adapters that an adapter mixes (X-LoRA), which PEFT saves in folders of their own beside it and loads with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.adapter import read_config
from adaptkit.bases.known import stored_reference
from adaptkit.extend.artifact_files import CONFIG, WEIGHTS
from adaptkit.io.safe_paths import check_relative

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def members(config: Mapping[str, Any], folder: Path) -> list[str]:
    """The folders of the adapters that a configuration names and that are here."""
    named = config.get("adapters")
    return [
        name
        for name in (named if isinstance(named, dict) else {})
        if name not in {"", ".", ".."} and "/" not in name and (folder / name / CONFIG).is_file()
    ]


def member_files(folder: Path, names: list[str], label: str) -> dict[str, Path | bytes]:
    """Their files by the names in the artifact, each configuration without the path of its base on this machine."""
    found: dict[str, Path | bytes] = {}
    for name in names:
        config = read_config(folder / name, f"{label}/{name}")
        reference = {"base_model_name_or_path": stored_reference(config, folder / name)}
        found[check_relative(f"{name}/{CONFIG}")] = as_file(config | reference)
        if (folder / name / WEIGHTS).is_file():
            found[check_relative(f"{name}/{WEIGHTS}")] = folder / name / WEIGHTS
    return found


def with_folders(config: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """A configuration that says of its members what their folders are called, not where they were on this machine."""
    if not names:
        return dict(config)
    return dict(config) | {
        "adapters": {
            name: name if name in names else place for name, place in config["adapters"].items()
        }
    }


def with_paths(
    config: Mapping[str, Any], folder: Path, called: Path | None = None
) -> dict[str, Any]:
    """The configuration with the full paths of its members in a folder: PEFT looks for them nowhere else.

    `called` is what the folder will be called, where that is another path.
    """
    here = members(config, folder)
    if not here:
        return dict(config)
    paths = {name: str((called or folder).absolute() / name) for name in here}
    return dict(config) | {"adapters": dict(config["adapters"]) | paths}


def as_file(config: Mapping[str, Any]) -> bytes:
    """A configuration as an artifact keeps it."""
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()
