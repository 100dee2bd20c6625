"""What a base model on the Hub is known by, without its weights: config, index, and the header of each file.

A diffusers pipeline is known by its model_index.json and the same of each component.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adaptkit.errors import StorageError
from adaptkit.extend.artifact_files import BASE_WEIGHTS, PIPELINE, base_files
from adaptkit.io.safe_paths import check_relative

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit_plugins.storage.hub.client import Client
    from adaptkit_plugins.storage.hub.history import History

_LARGEST_JSON = 64 << 20  # bytes
_LARGEST_CARD = 1 << 20  # bytes
_LARGEST_HEADER = 100_000_000  # bytes; what safetensors itself allows
_MOST_VARIANTS = 8  # that are named
_FIRST = 64 << 10  # bytes; the header of most files, and little when it is longer


def outline(client: Client, history: History, commit: str, into: Path) -> Mapping[str, str]:
    """Write the model's outline; returns the sha256 that the Hub states of each weight file."""
    tree = history.tree(commit)
    if (
        "README.md" in tree and tree["README.md"].size <= _LARGEST_CARD
    ):  # a quantised copy says there what it was made from
        (into / "README.md").write_bytes(client.read(commit, "README.md", _LARGEST_CARD))
    weights: list[str] = []
    for folder in _folders(client, tree, commit, into):
        (into / folder).mkdir(parents=True, exist_ok=True)
        if f"{folder}config.json" in tree:
            (into / folder / "config.json").write_bytes(
                client.read(commit, f"{folder}config.json", _LARGEST_JSON)
            )
        found = base_files(
            path.removeprefix(folder)
            for path in tree
            if path.startswith(folder) and "/" not in path.removeprefix(folder)
        )
        for other in found.others[
            :_MOST_VARIANTS
        ]:  # the outline says that they are there, as the repository does
            (into / folder / other).touch()
        if found.index:
            data = client.read(commit, f"{folder}{found.index}", _LARGEST_JSON)
            (into / folder / found.index).write_bytes(data)
            weights += [f"{folder}{name}" for name in _named(client, found.index, data)]
        elif found.single:
            weights.append(f"{folder}{found.single}")
        elif found.others:
            raise StorageError(
                f"{client.url} holds several variants of a model",
                why=", ".join(f"{folder}{name}" for name in found.others[:_MOST_VARIANTS]),
                fix="load the one that you use, save_pretrained(DIR), and give that folder",
            )
    if not weights:
        raise StorageError(
            f"{client.url} is not a base model",
            why=f"it holds neither {BASE_WEIGHTS[0][0]} nor {BASE_WEIGHTS[0][1]}",
            fix="give the repository of the model itself",
        )
    stated: dict[str, str] = {}
    for name in weights:
        if name not in tree:
            raise StorageError(
                f"the base {client.url} is incomplete",
                why=f"its index names {name}, which is missing",
                fix="ask whoever made the repository",
            )
        target = into / check_relative(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            if name.endswith(".safetensors"):
                file.write(_header(client, commit, name))
            file.truncate(tree[name].size)
        stated[name] = tree[name].lfs.sha256 if tree[name].lfs else ""
    return stated


def _folders(client: Client, tree: Mapping[str, Any], commit: str, into: Path) -> list[str]:
    """The folder of the model; of a pipeline those of its components, as its model_index.json names them."""
    if PIPELINE not in tree:
        return [""]
    data = client.read(commit, PIPELINE, _LARGEST_JSON)
    (into / PIPELINE).write_bytes(data)
    try:
        named = [name for name, value in json.loads(data).items() if isinstance(value, list)]
    except (ValueError, AttributeError, RecursionError) as error:
        raise StorageError(
            f"{PIPELINE} of {client.url} cannot be read",
            why=str(error),
            fix="do not trust this model",
        ) from error
    there = {path.partition("/")[0] for path in tree if "/" in path}
    return [f"{check_relative(name)}/" for name in named if name in there]


def _header(client: Client, commit: str, name: str) -> bytes:
    first = client.begin(commit, name, _FIRST)
    size = 8 + int.from_bytes(first[:8], "little")
    if size > _LARGEST_HEADER:
        raise StorageError(
            f"{name} of {client.url} cannot be read",
            why=f"its header would have {size:,} bytes",
            fix="do not trust this model",
        )
    return (first if size <= len(first) else client.begin(commit, name, size))[:size]


def _named(client: Client, index: str, data: bytes) -> list[str]:
    try:
        return sorted({check_relative(name) for name in json.loads(data)["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(
            f"{index} of {client.url} cannot be read", why=str(error), fix="do not trust this model"
        ) from error
