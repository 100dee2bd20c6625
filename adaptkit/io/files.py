"""Atomic, durable writes of files: temporary file in the same folder, fsync, rename or `link()`, fsync the folder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from adaptkit.errors import Conflict, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path

LARGEST_COMPANION = 256 << 20  # bytes of a tokenizer, a README or the like, which is read whole
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_ADVICE = {errno.ENOENT: "check the path for a typo", errno.EISDIR: "give a file in it"}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


@contextmanager
def os_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a `StoreError`: cannot `doing` (such as "write") `path`, and why."""
    try:
        yield
    except OSError as error:
        raise io_error(doing, path, error) from error


def io_error(doing: str, path: Path, error: OSError) -> StoreError:
    """The `StoreError` for an error of the operating system about `path`."""
    what = f"cannot {doing} {path}"
    if error.errno in _FULL:
        return StoreError(
            what,
            why="disk full",
            fix=f"free some space on the disk of {path.parent}, then try again",
        )
    if error.errno in _FORBIDDEN:
        return StoreError(what, why="no permission", fix=f"check who owns it: ls -ld {path.parent}")
    if error.errno == errno.EROFS:
        return StoreError(
            what, why="the file system is read-only", fix="choose a folder that can be written"
        )
    fix = _ADVICE.get(error.errno or 0, "") if doing == "read" else ""
    return StoreError(what, why=error.strerror or str(error), fix=fix)


def fsync_directory(path: Path) -> None:
    """Make renames, links and removals in a folder survive a power cut."""
    with os_errors("sync", path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
                raise
        finally:
            os.close(descriptor)


def fsync_file(path: Path) -> None:
    """Make the bytes of a file that was written and closed survive a power cut."""
    with os_errors("sync", path), path.open("rb") as file:
        os.fsync(file.fileno())


def open_temp(folder: Path, name: str, mode: int = 0o666) -> tuple[int, Path]:
    """A new file, open for reading and writing, of a unique name; hidden and ending in `.tmp`."""
    temp = folder / f".{name[:100]}.{os.urandom(8).hex()}.tmp"
    return os.open(
        temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode
    ), temp


def is_temp(name: str) -> bool:
    """Whether `open_temp` gave a file this name: one that is left was of a process that was killed."""
    return re.fullmatch(r"\..+\.[0-9a-f]{16}\.tmp", name) is not None


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """`pwrite` until everything is written: the system may take less at a time."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count


def copy_range(source: int, target: int, count: int, begin: int, offset: int) -> int:
    """Copy bytes between files, inside the system where it can; returns how many were copied."""
    done = 0
    in_system = hasattr(os, "copy_file_range")
    while done < count:
        if in_system:
            try:
                moved = os.copy_file_range(
                    source, target, count - done, begin + done, offset + done
                )
            except OSError as error:
                if error.errno not in {
                    errno.EXDEV,
                    errno.EINVAL,
                    errno.ENOSYS,
                    errno.EOPNOTSUPP,
                    errno.EPERM,
                }:
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
    """Hard-link `temp` to the name `path`; False when that exists. OSError where there are no hard links."""
    try:
        os.link(temp, path)
    except FileExistsError:
        return False
    return True


def links_unknown(error: OSError) -> bool:
    """Whether a failed `link()` means that this file system has none (or no more for this file)."""
    return error.errno in _NO_LINKS


def atomic_write(
    path: Path,
    data: bytes,
    create_only: bool = False,
    *,
    mode: int | None = None,
    sync: bool = True,
) -> None:
    """Write a file in one step; `create_only` raises `Conflict` when it exists.

    A file that is replaced keeps its mode; a new one gets `mode`, else what the umask leaves. Without `sync` nothing
    waits for the disk: after a power cut the file may be empty.
    """
    with os_errors("write", path):
        keep = mode if create_only else _mode_of(path, mode)
        # no one else may read it before it has its mode
        descriptor, temp = open_temp(path.parent, path.name, 0o666 if keep is None else 0o600)
        try:
            try:
                if keep is not None:
                    os.fchmod(descriptor, keep)
                write_all(descriptor, data, 0)
                if sync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if not create_only:
                temp.replace(path)
            elif not link_new(temp, path):
                raise Conflict(
                    f"{path} exists already", why="and it may only be created, not replaced"
                )
        finally:
            with suppress(FileNotFoundError):
                temp.unlink()
    if sync:
        fsync_directory(path.parent)


def _mode_of(path: Path, otherwise: int | None) -> int | None:
    """The mode of the file that is about to be replaced; `otherwise` when there is none.

    A device is refused: the rename would put a file in the place of /dev/null.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return otherwise
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise StoreError(
            f"cannot write {path}",
            why="it is a device, a pipe or a socket",
            fix="give the name of a file",
        )
    return stat.S_IMODE(mode)


def open_plain(path: Path) -> BufferedReader:
    """Open a file to read it; OSError for what is no file: a FIFO would wait for a writer for ever, a device never ends.

    Links are followed: caches of models are made of them, and the folder is the reader's own choice.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a file", str(path))  # noqa: TRY301
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_plain(path: Path, largest: int = LARGEST_COMPANION) -> bytes:
    """The bytes of a file that is read whole; `StoreError` for what is no file, and for one of more bytes than `largest`."""
    with os_errors("read", path), open_plain(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > largest:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, more than {largest:,}", str(path))
        return file.read(largest)


def sha256_file(path: Path) -> str:
    """The sha256 (hex) of a file's bytes."""
    with os_errors("read", path), open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
