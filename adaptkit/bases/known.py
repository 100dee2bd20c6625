"""What is known of the base of an adapter, and what its configuration declares."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.bases.pipeline import is_pipeline
from adaptkit.io.safe_paths import user_path
from adaptkit.io.sizes import count_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.types import BaseIdentity

_HUB_ID = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?", re.ASCII)
_CACHE_FOLDER = re.compile(r"models--(.+)")
_LONGEST_PART = 255  # bytes, of a path and of a repository's name
_LONGEST_PATH = 2048  # bytes; Linux has 4,096, and the adapter's folder may come before


def is_hub_id(name: str) -> bool:
    """Whether a name can be that of a Hub repository: `owner/name`, or `name` as in the Hub's early days."""
    return _HUB_ID.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Base:
    """The base an adapter is for: its identity, and its tensors' shapes and its folder when it is at hand."""

    identity: BaseIdentity
    shapes: Mapping[str, tuple[int, ...]] | None = None
    folder: Path | None = None
    cache: Path | None = None
    """Where what its class says is remembered by content."""
    remarks: tuple[str, ...] = ()
    """What to know about its files: which variant of the weights was read, and which were not."""

    def __repr__(self) -> str:
        tensors = "" if self.shapes is None else f", {count_text(len(self.shapes), 'tensor')}"
        return f"<Base {self.identity.name or '?'} ({self.identity.status}){tensors}>"


def declared_base(config: Mapping[str, Any], folder: Path) -> tuple[str | None, Path | None]:
    """The base that a configuration names, and the folder when it is a local path (whether or not that exists)."""
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        return None, None
    parts = named.encode().split(b"/")
    if "\0" in named or len(named.encode()) > _LONGEST_PATH or max(map(len, parts)) > _LONGEST_PART:
        return None, None  # no repository and no path is called so
    path = user_path(named)
    local = not _HUB_ID.fullmatch(named) or named.startswith(".")
    for candidate in (path, folder / path) if not path.is_absolute() else (path,):
        if (candidate / "config.json").is_file() or is_pipeline(candidate):
            return named, candidate
    return named, path if local else None


def snapshot_of(folder: Path) -> str | None:
    """The repository whose snapshot in the Hub's cache this path is; None for any other path."""
    found = (
        _CACHE_FOLDER.fullmatch(folder.parent.parent.name)
        if folder.parent.name == "snapshots"
        else None
    )
    return found[1].replace("--", "/", 1) if found else None


def stored_reference(config: Mapping[str, Any], folder: Path) -> str | None:
    """What an artifact keeps of the base that its configuration names: a Hub repository, or nothing.

    A local folder means nothing on another machine, and what it happens to be called is no part of the adapter. A
    snapshot in the Hub's cache is that of its repository.
    """
    named, local = declared_base(config, folder)
    return named if local is None else snapshot_of(local)
