"""Artifacts that nobody trained: manifests of a few bytes, and bundles of them to push."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from adaptkit.extend import Bundle
from adaptkit.types import FileEntry, Manifest, PlacedVersion, artifact_digest

if TYPE_CHECKING:
    from pathlib import Path


def entry(path: str, data: bytes) -> FileEntry:
    return FileEntry(path, len(data), sha256(data).hexdigest())


def manifest(content: object, method: str = "lora", **more: Any) -> Manifest:
    """Different content, different digest."""
    files = (
        entry("adapter_config.json", b"{}"),
        entry("adapter_model.safetensors", str(content).encode()),
    )
    return Manifest(artifact_digest(files), files, method, **more)


def bundle(folder: Path, contents: dict[str, bytes], number: int = 1, **more: Any) -> Bundle:
    """Files written to a folder, ready to push. README.md is an extra."""
    for path, data in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    entries = [entry(path, data) for path, data in contents.items()]
    files = tuple(e for e in entries if e.path != "README.md")
    extras = tuple(e for e in entries if e.path == "README.md")
    made = Manifest(artifact_digest(files), files, "lora", 8, extras=extras, **more)
    return Bundle(
        PlacedVersion(number, made, "naval", "a message", "ada"),
        {path: folder / path for path in contents},
    )
