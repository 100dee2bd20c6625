"""Staging: build a result in a hidden sibling folder, then rename it into place."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adaptkit.errors import Refused
from adaptkit.io.files import fsync_directory, os_errors
from adaptkit.io.safe_paths import user_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_live: set[Path] = set()


def empty_target(out: Path) -> Path:
    """The absolute path of the folder for a result, which must be missing or empty."""
    out = user_path(out).absolute()
    if out.is_dir() and any(out.iterdir()):
        raise Refused(
            f"{out} is not empty",
            why="its files would be mixed up with the result",
            fix="choose a new folder, or empty this one",
        )
    if out.exists() and not out.is_dir():
        raise Refused(f"{out} is a file", why="the result is a folder", fix="choose another path")
    return out


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """A folder for work in progress inside `parent`, gone afterwards."""
    folder = parent / f".adaptkit-{os.urandom(6).hex()}"
    try:  # around the creation as well, so that no signal can come between
        with os_errors("write", parent):
            parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
            _live.add(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _live.discard(folder)


def clear_all() -> None:
    """Remove the work in progress of this process, which is about to end without its `finally` blocks."""
    for folder in list(_live):
        shutil.rmtree(folder, ignore_errors=True)


def rename_into(folder: Path, target: Path, *, sync: bool = True) -> None:
    """Make a finished folder appear under its name."""
    with os_errors("write", target):
        folder.chmod(0o755)
        if sync:
            fsync_directory(folder)
        folder.rename(target)
    if sync:
        fsync_directory(target.parent)


def pretty_json(data: Any) -> bytes:
    """JSON for people: the bytes of an `adaptkit.json` in a folder."""
    return (
        json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()
