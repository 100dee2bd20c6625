"""What a baked model has beside its weights: its configuration, its index, and every other file of the base."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.adapter import artifact_paths
from adaptkit.bases.files.checkpoint import module_folders
from adaptkit.bases.pipeline import COMPONENTS, prefixed
from adaptkit.extend.artifact_files import is_index
from adaptkit.io.files import atomic_write, fsync_directory, fsync_file, os_errors
from adaptkit.io.safetensors.reader import size_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from adaptkit.adapters.fitting.changes import Tensor
    from adaptkit.bake.plan import BakePlan
    from adaptkit.bases.files.checkpoint import Layout

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
)


def carry_along(
    adapter: Path,
    layout: Layout,
    planned: BakePlan,
    work: Path,
    dtype: str | None,
    *,
    sync: bool,
) -> None:
    """Write config.json with what changed, the index, and copy the rest; the adapter's tokenizer wins.

    With `sync`, what is copied (an autoencoder's weights) survives a power cut like what was written: all is synced at
    the end, so that the system has begun to write one file while it takes the next.
    """
    own_files = [] if layout.components else artifact_paths(adapter)[0]
    written: list[Path | None] = [
        *(_copy(file, work / layout.inside(file)) for file in _others(layout)),
        *(_copy(adapter / n, work / n) for n in own_files if not n.startswith("adapter_")),
    ]
    for part, own in (layout.components or {"": layout}).items():
        folder = work / part
        changed = planned.config.get(COMPONENTS, {}).get(part) if part else planned.config
        written.append(_write_config(own, changed or {}, folder, dtype))
        plan = planned.tensors
        if part:
            plan = {name: plan[name] for name in plan if name.startswith(f"{part}.")}
        written.append(_write_index(own, plan, part, folder))
    if sync:
        for path in dict.fromkeys(filter(None, written)):
            fsync_file(path)
        for folder in (path for path in work.rglob("*") if path.is_dir()):
            fsync_directory(folder)


def _others(layout: Layout) -> Iterator[Path]:
    """The base's files that hold no weights which the bake writes: of a pipeline also all of its other components."""
    folders = [layout.directory, *(part.directory for part in layout.components.values())]
    for folder in folders:
        for file in sorted(folder.iterdir()):
            if (
                file.is_file()
                and not file.name.startswith(".")
                and not file.name.endswith(_WEIGHTS)
                and not is_index(file.name)
            ):
                yield file
    for folder in _whole_folders(layout):
        if folder.is_dir() and folder not in folders:
            yield from sorted(file for file in folder.rglob("*") if file.is_file())


def _whole_folders(layout: Layout) -> list[Path]:
    """Folders that are copied with all that is in them.

    The other components of a pipeline; the poolings and dense layers of sentence-transformers; further chat templates.
    """
    if layout.components:
        return sorted(p for p in layout.directory.iterdir() if not p.name.startswith("."))
    names = (*module_folders(layout.directory), "additional_chat_templates")
    return [layout.directory / name for name in names]


def _write_config(
    layout: Layout, changes: Mapping[str, Any], folder: Path, dtype: str | None
) -> Path | None:
    config = dict(layout.config)
    if "_class_name" not in config and dtype is not None:  # diffusers keeps no dtype there
        config.pop("torch_dtype", None)
        changes = {**changes, "dtype": dtype}
    if config | dict(changes) == layout.config:
        return None
    text = json.dumps(config | dict(changes), indent=2) + "\n"
    return _write(folder / "config.json", text)


def _write_index(
    layout: Layout, plan: Mapping[str, Tensor], part: str, folder: Path
) -> Path | None:
    index = layout.index
    if index is None:
        return None
    if all(_as_stored(layout, part, name, tensor) for name, tensor in plan.items()):
        return _copy(index, folder / index.name)
    files = {prefixed(part, name): place.file for name, place in (layout.tensors or {}).items()}
    table = {
        "metadata": {"total_size": sum(size_of(t.dtype, t.shape) for t in plan.values())},
        "weight_map": {
            name.removeprefix(f"{part}.") if part else name: (
                files.get(tensor.source) or layout.files[-1]
            ).name
            for name, tensor in sorted(plan.items())
        },
    }
    return _write(folder / index.name, json.dumps(table, indent=2, sort_keys=True) + "\n")


def _as_stored(layout: Layout, part: str, name: str, tensor: Tensor) -> bool:
    """Whether a tensor has the name, dtype and shape that it has in the base."""
    if tensor.source != name:
        return False
    entry = (layout.tensors or {})[name.removeprefix(f"{part}.") if part else name].entry
    return (entry.dtype, entry.shape) == (tensor.dtype, tensor.shape)


def _write(path: Path, text: str) -> Path:
    """Write a small file into a folder that has no name yet."""
    atomic_write(path, text.encode(), sync=False)
    return path


def _copy(file: Path, to: Path) -> Path:
    """Copy a file into a folder that has no name yet."""
    with os_errors("write", to):
        to.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as source, to.open("wb") as target:
            shutil.copyfileobj(source, target)
    return to
