"""Paths from outside, checked before use: what a person typed, and the file names of an artifact."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
"""Control and format characters that text from outside must not bring to a file name or a terminal: C0, C1, zero-width,
line separators, bidirectional overrides, lone surrogates. Joiners (U+200C, U+200D) are part of real words."""
_DRIVE = re.compile(r"[A-Za-z]:")
DEVICE = re.compile(r"(?i:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:[ .]|$)")
"""What Windows takes for a device, whatever follows the first dot."""
_GIT = {".git", "git~1"}
_SHOWN = 80  # characters of a refused path
LONGEST_PATH, LONGEST_PART = 1024, 255  # bytes: an object's key, a name on most file systems
MOST_FILES = 10_000  # of an artifact; real ones have ten


def user_path(text: str | os.PathLike[str]) -> Path:
    """The path a person typed, `~` and `~ada` resolved; a `~` of an unknown user stays (pathlib would raise)."""
    return Path(os.path.expanduser(text))  # noqa: PTH111


def check_relative(path: str) -> str:
    """The path of a file inside an artifact, checked before use: relative, posix, it stays inside, on every system.

    Manifests come from elsewhere; `StoreError` when such a path could lead out of its folder, hide another file
    on some file system, or set something off (`.git`).
    """
    parts = path.split("/")
    if CONTROL.search(path):
        why = "it contains a control character"
    elif "\\" in path or _DRIVE.match(path):
        why = "it is a Windows path; only '/' may separate folders"
    elif path.startswith("/"):
        why = "it is absolute"
    elif ".." in parts:
        why = "'..' leads out of the artifact"
    elif "" in parts or "." in parts:
        why = "it has an empty or '.' part"
    elif any(part.endswith((".", " ")) or part.startswith(" ") for part in parts):
        why = "a part begins with a space, or ends with a space or a dot, which Windows drops"
    elif any(part.casefold() in _GIT for part in parts):
        why = "'.git' is where git keeps what it runs"
    elif ":" in path or any(DEVICE.match(part) for part in parts):
        why = "Windows takes it for a device or a stream"
    elif len(path.encode()) > LONGEST_PATH or any(
        len(part.encode()) > LONGEST_PART for part in parts
    ):
        why = f"it is longer than {LONGEST_PATH} bytes, or a part is longer than {LONGEST_PART}"
    else:
        return path
    raise StoreError(
        f"the path {_shown(path)} is not allowed in an artifact",
        why=why,
        fix="do not trust where it comes from",
    )


def check_paths(paths: Sequence[str]) -> tuple[str, ...]:
    """The paths of all files of an artifact: each one good, and no two that are one file on some file system.

    Upper and lower case, and the two ways of writing é (NFC, NFD), are one to macOS and Windows.
    """
    if len(paths) > MOST_FILES:
        raise StoreError(
            f"a list of {len(paths):,} files is not allowed",
            why=f"an artifact has at most {MOST_FILES:,}",
            fix="do not trust where it comes from",
        )
    files: dict[str, str] = {}
    for path in paths:
        key = _one_name(check_relative(path))
        if key in files:
            raise _collision(path, files[key])
        files[key] = path
    for path in paths:
        parts = path.split("/")
        for count in range(1, len(parts)):
            folder = _one_name("/".join(parts[:count]))
            if folder in files:
                raise _collision(path, files[folder])
    return _checked_folders(paths)


def _checked_folders(paths: Sequence[str]) -> tuple[str, ...]:
    """Two folders that differ only by case would become one; then so would the trees of two systems."""
    spelled: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        for count in range(1, len(parts)):
            folder = "/".join(parts[:count])
            if spelled.setdefault(_one_name(folder), folder) != folder:
                raise _collision(folder, spelled[_one_name(folder)])
    return tuple(paths)


def _one_name(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _collision(path: str, other: str) -> StoreError:
    return StoreError(
        f"the paths {_shown(path)} and {_shown(other)} are not allowed in one artifact",
        why="a path is listed twice, or is the same as another on some file systems",
        fix="do not trust where it comes from",
    )


def _shown(path: str) -> str:
    """A hostile path, inert and short."""
    return ascii(path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…")
