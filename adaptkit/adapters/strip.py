"""An adapter without some of its parts: for engines that load no heads and no embeddings."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.write import write_companions
from adaptkit.errors import BadRecipe
from adaptkit.extend.artifact_files import CONFIG, WEIGHTS
from adaptkit.io.files import read_plain
from adaptkit.io.safetensors.writer import TensorWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from adaptkit.adapters.adapter import Adapter
    from adaptkit.bases.architecture import Architecture
    from adaptkit.extend import AdapterMethod


def strip(
    adapter: Adapter,
    method: AdapterMethod,
    out: Path,
    *,
    heads: bool = False,
    embeddings: bool = False,
    modules: Sequence[str] = (),
    architecture: Architecture | None = None,
) -> list[str]:
    """Write the adapter without those tensors into `out`, an empty folder; returns the keys that were left out.

    `heads` are tensors that the adapter brings whole, other than embeddings; `embeddings` are updates, rows and copies
    of the input embedding; `modules` are globs of module names.
    """
    extras = set(method.extras(adapter))
    left = [
        key
        for key in adapter.header
        if (heads and key in extras and not _embeds(key, architecture))
        or (embeddings and _embeds(key, architecture))
        or any(fnmatchcase(_module(key), glob) for glob in modules)
    ]
    kept = [key for key in adapter.header if key not in set(left)]
    if not left or not kept:
        raise BadRecipe(
            f"cannot strip {adapter.label}",
            why="nothing of it is of these parts" if kept else "nothing of it would be left",
            fix="adaptkit show lists its modules; --modules GLOB names them",
        )
    with TensorWriter(
        out / WEIGHTS, {k: (adapter.header[k].dtype, adapter.header[k].shape) for k in kept}
    ) as writer:
        for key in kept:
            writer.write(key, adapter.read(key))
        writer.commit()
    write_companions(out, _config(adapter, kept, left), _files(adapter))
    return left


def _module(key: str) -> str:
    """The module that a key belongs to, without PEFT's prefix and what stands behind the name."""
    name = key.removeprefix("base_model.model.")
    for mark in (".lora_", ".base_layer.", ".token_adapter.", ".ia3_l", ".hada_", ".lokr_"):
        name = name.partition(mark)[0]
    return name.removesuffix(".weight").removesuffix(".bias")


def _embeds(key: str, architecture: Architecture | None) -> bool:
    """Whether a key is of an embedding: by the model's class where it is known, else by the form of the tensor."""
    if architecture is not None and architecture.known:
        found = architecture.find(f"{_module(key)}.weight")
        return any(
            architecture.layers.get(name.removesuffix(".weight")) == "embedding" for name in found
        )
    return ".lora_embedding_" in key or ".token_adapter." in key


def _config(adapter: Adapter, kept: Sequence[str], left: Sequence[str]) -> dict[str, Any]:
    config = dict(adapter.config)
    names = {_module(key) for key in kept}
    gone = {_module(key) for key in left} - names
    saved = config.get("modules_to_save")
    if isinstance(saved, list):
        config["modules_to_save"] = [
            name for name in saved if any(f".{name}." in f".{key}." for key in kept)
        ] or None
    targets = config.get("target_modules")
    if any(_names(targets, name) for name in gone):
        config["target_modules"] = sorted({_module(key) for key in kept if _is_update(key)})
    rows = config.get("trainable_token_indices")
    if rows and not any(".token_adapter." in key for key in kept):
        config["trainable_token_indices"] = None
    return config


def _is_update(key: str) -> bool:
    return any(mark in key for mark in (".lora_", ".ia3_l", ".hada_", ".lokr_"))


def _names(targets: Any, name: str) -> bool:
    if isinstance(targets, str):
        return True  # a pattern would go on naming what is gone
    return any(name == one or name.endswith(f".{one}") for one in targets or ())


def _files(adapter: Adapter) -> dict[str, bytes]:
    from adaptkit.adapters.adapter import artifact_paths

    paths = artifact_paths(adapter.path)[0]
    own = {CONFIG, WEIGHTS}
    return {
        path: read_plain(adapter.path / path)
        for path in paths
        if path not in own and not path.startswith("adapter_model.")
    }
