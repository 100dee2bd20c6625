"""What lies beside the weights of a baked model: configuration, tokenizer, index and every other file of the base."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.adapter import artifact_paths
from adaptkit.bases.checkpoint import index_of
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.safetensors.reader import size_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.adapters.changes import Tensor
    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bases.weights import BaseWeights

_WEIGHTS = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".h5",
    ".msgpack",
    ".gguf",
    ".onnx",
    ".ckpt",
    ".index.json",
)


def carry_along(
    source: OpenAdapter,
    weights: BaseWeights,
    plan: Mapping[str, Tensor],
    shards: Mapping[Path, list[str]],
    work: Path,
    dtype: str | None,
    changes: Mapping[str, Any],
    *,
    sync: bool,
) -> None:
    """config.json with what changed, the index, and every other file of the base; the adapter's tokenizer wins."""
    base = weights.layout.directory
    for file in sorted(base.iterdir()):
        if file.is_file() and not file.name.startswith(".") and not file.name.endswith(_WEIGHTS):
            copy_file(file, work / file.name, sync=sync)
    for name in artifact_paths(source.adapter.path)[0]:
        if not name.startswith("adapter_"):
            copy_file(source.adapter.path / name, work / name, sync=sync)
    if changes:
        config = dict(weights.layout.config)
        if dtype is not None:
            config.pop("torch_dtype", None)
        text = json.dumps(config | dict(changes), indent=2) + "\n"
        atomic_write(work / "config.json", text.encode(), sync=sync)
    index = index_of(weights.layout)
    if index is not None:
        if all(_as_stored(weights, name, tensor) for name, tensor in plan.items()):
            copy_file(index, work / index.name, sync=sync)
        else:
            table = {
                "metadata": {"total_size": sum(size_of(t.dtype, t.shape) for t in plan.values())},
                "weight_map": {
                    name: file.name for file, names in shards.items() for name in sorted(names)
                },
            }
            text = json.dumps(table, indent=2, sort_keys=True) + "\n"
            atomic_write(work / index.name, text.encode(), sync=sync)


def _as_stored(weights: BaseWeights, name: str, tensor: Tensor) -> bool:
    """Whether a tensor has the name, dtype and shape that it has in the base."""
    if tensor.source != name:
        return False
    entry = weights.location(name).entry
    return (entry.dtype, entry.shape) == (tensor.dtype, tensor.shape)


def copy_file(file: Path, to: Path, *, sync: bool) -> None:
    """Copy a small file into a folder that has no name yet."""
    with os_errors("write", to):
        to.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as source, to.open("wb") as target:
            shutil.copyfileobj(source, target)
            if sync:
                target.flush()
                os.fsync(target.fileno())
