"""Which folder: `file:///mnt/team/naval`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from adaptkit.errors import StorageError


def folder(url: str) -> Path:
    """The folder that a URL names; `StorageError` when it names none."""
    parts = urlsplit(url)
    if "@" in parts.netloc:  # a password may stand there: not repeated
        raise StorageError(
            "cannot read a place in file://…",
            why="it holds a user",
            fix="for example file:///mnt/team/naval",
        )
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise StorageError(
            f"cannot read the place '{url}'",
            why="a file URL has three slashes and an absolute path",
            fix="for example file:///mnt/team/naval",
        )
    path = unquote(parts.path)
    if "\0" in path or ".." in path.split("/"):
        raise StorageError(f"cannot read the place '{url}'", why="its path holds '..' or a NUL")
    return Path(path)
