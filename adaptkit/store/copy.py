"""Files on their way into the store: hashed while they are copied, never through a link, across file systems if need be."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.io.files import open_temp, os_errors, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20  # bytes


def is_regular(path: Path) -> bool:
    """Whether the path is a regular file: not a link, not a folder."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, links included and not followed."""
    for root, folders, names in os.walk(folder):
        yield from (Path(root) / name for name in names)
        yield from (Path(root) / name for name in folders if (Path(root) / name).is_symlink())


def copy_hashing(source: Path | bytes, descriptor: int, root: Path) -> tuple[int, str]:
    """Copy into an open file, hashing on the way: size and sha256."""
    if isinstance(source, bytes):
        with os_errors("write", root):
            write_all(descriptor, source, 0)
        return len(source), hashlib.sha256(source).hexdigest()
    size, hashed, chunk = 0, hashlib.sha256(), memoryview(bytearray(_CHUNK))
    with os_errors("read", source):
        file = source.open("rb", buffering=0)
    with file:
        while True:
            with os_errors("read", source):
                count = file.readinto(chunk)
            if not count:
                return size, hashed.hexdigest()
            hashed.update(chunk[:count])
            with os_errors("write", root):
                write_all(descriptor, chunk[:count], size)
            size += count


def copy_across(descriptor: int, target: Path) -> None:
    """Make a finished file appear in another file system: copied beside its target, then renamed."""
    copy, beside = open_temp(target.parent, "blob")
    try:
        size = os.fstat(descriptor).st_size
        for offset in range(0, size, _CHUNK):
            write_all(copy, os.pread(descriptor, _CHUNK, offset), offset)
        os.fchmod(copy, 0o444)
        os.fsync(copy)
        beside.replace(target)
    finally:
        os.close(copy)
        with suppress(OSError):
            beside.unlink()
