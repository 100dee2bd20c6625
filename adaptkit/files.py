"""Files that are there whole or not at all: temp in the same folder, fsync, rename or `link()`, fsync the folder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import unicodedata
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.errors import Conflict, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")
_DEVICE = re.compile(r"(?i:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:[ .]|$)")
_GIT = {".git", "git~1"}
_SHOWN = 80  # characters of a refused path
LONGEST_PATH, LONGEST_PART = 1024, 255  # bytes: an object's key, a name on most file systems
MOST_FILES = 10_000  # of an artifact; real ones have ten


@contextmanager
def explained(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a `StoreError` sentence: cannot `doing` (such as "write") `path`, and why."""
    try:
        yield
    except OSError as error:
        raise io_error(doing, path, error) from error


def io_error(doing: str, path: Path, error: OSError) -> StoreError:
    """The sentence for what the operating system said about `path`."""
    what = f"cannot {doing} {path}"
    if error.errno in _FULL:
        return StoreError(what, why="disk full", fix=f"free some space on the disk of {path.parent}, then try again")
    if error.errno in _FORBIDDEN:
        return StoreError(what, why="no permission", fix=f"check who owns it: ls -ld {path.parent}")
    if error.errno == errno.EROFS:
        return StoreError(what, why="the file system is read-only", fix="choose a folder that can be written")
    return StoreError(what, why=error.strerror or str(error))


def fsync_directory(path: Path) -> None:
    """Make renames, links and removals in a folder survive a power cut."""
    with explained("sync", path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
                raise
        finally:
            os.close(descriptor)


def open_temp(folder: Path, name: str, mode: int = 0o666) -> tuple[int, Path]:
    """A new file, open for reading and writing, of a name nobody else has; hidden and ending in `.tmp`."""
    temp = folder / f".{name[:100]}.{os.urandom(8).hex()}.tmp"
    return os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode), temp


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """`pwrite` until everything is written: the system may take less at a time."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count


def copy_range(source: int, target: int, count: int, begin: int, offset: int) -> int:
    """Copy bytes between files, inside the system where it can; answers how many there were."""
    done = 0
    in_system = hasattr(os, "copy_file_range")
    while done < count:
        if in_system:
            try:
                moved = os.copy_file_range(source, target, count - done, begin + done, offset + done)
            except OSError as error:
                if error.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}:
                    raise
                in_system = False
                continue
        else:
            piece = os.pread(source, min(1 << 20, count - done), begin + done)
            write_all(target, piece, offset + done)
            moved = len(piece)
        if not moved:
            break
        done += moved
    return done


def link_new(temp: Path, path: Path) -> bool:
    """Give `temp` the name `path` too, unless that exists: False. Without hard links it falls to OSError."""
    try:
        os.link(temp, path)
    except FileExistsError:
        return False
    return True


def links_unknown(error: OSError) -> bool:
    """Whether a failed `link()` means that this file system has none (or no more for this file)."""
    return error.errno in _NO_LINKS


def atomic_write(path: Path, data: bytes, create_only: bool = False) -> None:
    """Write a file that is there whole or not at all; `create_only` raises `Conflict` when it exists."""
    with explained("write", path):
        descriptor, temp = open_temp(path.parent, path.name)
        try:
            try:
                write_all(descriptor, data, 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if not create_only:
                temp.replace(path)
            elif not link_new(temp, path):
                raise Conflict(f"{path} exists already", why="and it may only be created, not replaced")
        finally:
            with suppress(FileNotFoundError):
                temp.unlink()
    fsync_directory(path.parent)


def user_path(text: str | os.PathLike[str]) -> Path:
    """The path a person typed, `~` and `~ada` resolved; a `~` that means nobody stays (pathlib would raise)."""
    return Path(os.path.expanduser(text))  # noqa: PTH111


def check_relative(path: str) -> str:
    """The path of a file inside an artifact, checked before use: relative, posix, it stays inside, on every system.

    Manifests come from elsewhere; `StoreError` when such a path could lead out of its folder, hide another file
    on some file system, or set something off (`.git`).
    """
    parts = path.split("/")
    if _CONTROL.search(path):
        why = "it holds a control character"
    elif "\\" in path or _DRIVE.match(path):
        why = "it is a Windows path; only '/' may part folders"
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
    elif ":" in path or any(_DEVICE.match(part) for part in parts):
        why = "Windows takes it for a device or a stream"
    elif len(path.encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_PART for part in parts):
        why = f"it is longer than {LONGEST_PATH} bytes, or a part is longer than {LONGEST_PART}"
    else:
        return path
    raise StoreError(
        f"the path {_shown(path)} is not allowed in an artifact", why=why, fix="do not trust where it comes from"
    )


def check_paths(paths: Sequence[str]) -> tuple[str, ...]:
    """The paths of all files of an artifact: each one good, and no two that are one file on some file system.

    Upper and lower case, and the two ways of writing é (NFC, NFD), are one to macOS and Windows.
    """
    if len(paths) > MOST_FILES:
        raise StoreError(f"a list of {len(paths):,} files is not allowed", why=f"an artifact has at most {MOST_FILES:,}",
                         fix="do not trust where it comes from")  # fmt: skip
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
    return StoreError(f"the paths {_shown(path)} and {_shown(other)} are not allowed in one artifact",
                      why="a path stands there twice, or is one with another on some file systems",
                      fix="do not trust where it comes from")  # fmt: skip


def _shown(path: str) -> str:
    """A hostile path, inert and short."""
    return ascii(path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…")


def sha256_file(path: Path) -> str:
    """The sha256 (hex) of a file's bytes."""
    with explained("read", path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
