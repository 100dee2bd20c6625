"""`file://`: a folder that a team mounts.

Notable choices:
- a version is built in a hidden folder beside its place and renamed into it, so it appears whole; a rename
  onto a folder that has something in it fails, which is how a lost race shows
- a file that an earlier version has, and whose bytes still are what they should be, is hard-linked
- an interrupted push leaves a hidden folder that no reader sees; later pushes sweep those older than a day
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote, urlsplit

from adaptkit.errors import Conflict, Corrupt, StorageError, StoreError
from adaptkit.extend import Promise, attachments, no_progress
from adaptkit.extend.versioned_storage import (
    ALIASES,
    LARGEST_MANIFEST,
    MANIFEST,
    VersionedStorage,
    manifest_bytes,
)
from adaptkit.hookspecs import hookimpl
from adaptkit.io.files import atomic_write, fsync_directory, sha256_file
from adaptkit.io.safe_paths import check_relative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from adaptkit.extend import Bundle, Progress, StorageBackend
    from adaptkit.types import FileEntry, PlacedVersion

_VERSION = re.compile(r"v([1-9][0-9]{0,8})")
_WORK = ".adaptkit-"
_STALE = 24 * 3600  # seconds after which a hidden folder was certainly abandoned
_CHUNK = 1 << 20
HOLDS = "a version appears by one rename; aliases move under a lock"
UNLINKED = "this file system has no hard links: unchanged files are copied, and a file can be overwritten by a racer"
UNLOCKED = (
    "this file system does not lock files: an alias moved twice at once may keep either value"
)


class FilePlace(VersionedStorage):
    """One adapter's folder on a file system."""

    schemes: ClassVar[tuple[str, ...]] = ("file",)

    def __init__(self, url: str) -> None:
        super().__init__(url)
        parts = urlsplit(url)
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise StorageError(
                f"cannot read the place '{url}'",
                why="a file URL has three slashes and an absolute path",
                fix="for example file:///mnt/team/naval",
            )
        path = unquote(parts.path)
        if "\0" in path or ".." in path.split("/"):
            raise StorageError(f"cannot read the place '{url}'", why="its path holds '..' or a NUL")
        self.folder = Path(path)

    def numbers(self) -> tuple[int, ...]:
        return tuple(
            number
            for number in self._folders()
            if (self.folder / f"v{number}" / MANIFEST).is_file()
        )

    def taken(self) -> int:
        return max(
            (n for n in self._folders() if any((self.folder / f"v{n}").iterdir())), default=0
        )

    def manifest_of(self, number: int) -> bytes:
        return self._small_file(f"v{number}/{MANIFEST}")

    def _small_file(self, path: str) -> bytes:
        with self._explained("read"), (self.folder / path).open("rb") as file:
            data = file.read(LARGEST_MANIFEST + 1)
        if len(data) > LARGEST_MANIFEST:
            raise Corrupt(
                f"{self.url}/{path} is too large", why=f"more than {LARGEST_MANIFEST:,} bytes"
            )
        return data

    def publish(
        self, placed: PlacedVersion, bundle: Bundle, held: Mapping[str, str], progress: Progress
    ) -> int | None:
        with self._explained("write"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            work = self.folder / f"{_WORK}{os.urandom(8).hex()}"
            work.mkdir()
            try:
                sent = sum(
                    self._place(entry, bundle.paths[entry.path], work, held, progress)
                    for entry in bundle.files
                )
                atomic_write(work / MANIFEST, manifest_bytes(placed))
                fsync_directory(work)
                try:
                    work.rename(self.folder / f"v{placed.number}")
                except OSError as error:
                    if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                        return None
                    raise
                fsync_directory(self.folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return sent

    def pull(
        self,
        version: PlacedVersion,
        files: Sequence[FileEntry],
        into: Path,
        progress: Progress = no_progress,
    ) -> None:
        for entry in files:
            target = into / check_relative(entry.path)
            with self._explained("read"):
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(
                    self.folder / f"v{version.number}" / entry.path, target, progress, follow=False
                )

    def probe(self) -> Promise:
        with self._explained("write"):
            existed = self.folder.is_dir()
            self.folder.mkdir(parents=True, exist_ok=True)
            nonce = self.folder / f"{_WORK}probe-{os.urandom(8).hex()}"
            try:
                create_only, swaps = _creates_once(nonce), _locks(nonce)
            finally:
                nonce.unlink(missing_ok=True)
                if not existed:
                    self.folder.rmdir()
        return Promise(
            create_only,
            swaps,
            HOLDS if create_only and swaps else UNLOCKED if create_only else UNLINKED,
        )

    def aliases(self) -> Mapping[str, int]:
        if not (self.folder / ALIASES).is_file():
            return {}
        try:
            table = json.loads(self._small_file(ALIASES))
            return {str(alias): int(number) for alias, number in table.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise StorageError(
                f"{ALIASES} of {self.url} cannot be read",
                why=str(error),
                fix="mend or delete it, then push the alias again",
            ) from error

    def set_alias(self, alias: str, number: int) -> None:
        import fcntl

        with self._explained("write"):
            descriptor = os.open(self.folder / f"{_WORK}refs.lock", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                table = dict(self.aliases()) | {alias: number}
                atomic_write(
                    self.folder / ALIASES,
                    (json.dumps(table, indent=2, sort_keys=True) + "\n").encode(),
                )
            finally:
                os.close(descriptor)

    def attach(self, number: int, kind: str, files: Mapping[str, bytes]) -> str:
        attachments.check(self.url, files)
        if number not in self.numbers():
            raise attachments.absent(self.url, number)
        name = attachments.identity(files)
        with self._explained("write"):
            target = self.folder / attachments.folder(number, kind) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            work = self.folder / f"{_WORK}{os.urandom(8).hex()}"
            work.mkdir()
            try:
                for path, data in files.items():
                    atomic_write(work / path, data)
                try:
                    work.rename(target)
                except OSError as error:
                    if error.errno not in {
                        errno.ENOTEMPTY,
                        errno.EEXIST,
                    }:  # then it is there already
                        raise
                fsync_directory(target.parent)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return name

    def attached(self, number: int, kind: str) -> tuple[Mapping[str, bytes], ...]:
        folder = attachments.folder(number, kind)
        found = {
            f"{folder}/{name}": [
                file for file in self._named(f"{folder}/{name}") if attachments.allowed(file)
            ]
            for name in [name for name in self._named(folder) if attachments.ID.fullmatch(name)][
                : attachments.MOST
            ]
        }
        return tuple(
            {file: self._small_file(f"{path}/{file}") for file in files[: attachments.MOST]}
            for path, files in found.items()
        )

    def _named(self, path: str) -> list[str]:
        with self._explained("read"):
            try:
                return sorted(entry.name for entry in os.scandir(self.folder / path))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def names(self) -> tuple[str, ...]:
        places = {
            manifest.parent.parent
            for depth in ("*", "*/*")
            for manifest in self.folder.glob(f"{depth}/v*/{MANIFEST}")
        }
        return tuple(sorted(place.relative_to(self.folder).as_posix() for place in places))

    def _folders(self) -> list[int]:
        try:
            names = [entry.name for entry in os.scandir(self.folder) if entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._error("read", error) from error
        return sorted(int(match[1]) for name in names if (match := _VERSION.fullmatch(name)))

    def _place(
        self,
        entry: FileEntry,
        source: Path,
        work: Path,
        held: Mapping[str, str],
        progress: Progress,
    ) -> int:
        target = work / check_relative(entry.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.sha256 in held:
            earlier = self.folder / held[entry.sha256]
            with suppress(OSError, StoreError):
                if not earlier.is_symlink() and sha256_file(earlier) == entry.sha256:
                    os.link(earlier, target)
                    progress(entry.size)
                    return 0
        _copy(source, target, progress)
        return entry.size

    def _sweep(self) -> None:
        for left in self.folder.glob(f"{_WORK}*"):
            with suppress(OSError):
                if left.is_dir() and time.time() - left.stat().st_mtime > _STALE:
                    shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(doing, error) from error
        except StoreError as error:
            raise StorageError(
                f"cannot {doing} {self.url}", why=error.why or error.what, fix=error.fix
            ) from error

    def _error(self, doing: str, error: OSError) -> StorageError:
        why = (
            "disk full"
            if error.errno in {errno.ENOSPC, errno.EDQUOT}
            else error.strerror or str(error)
        )
        named = f" ({Path(error.filename).name})" if isinstance(error.filename, str) else ""
        return StorageError(
            f"cannot {doing} {self.url}",
            why=f"{why}{named}",
            fix=f"check that {self.folder} is mounted and that you may {doing} there",
        )


def _creates_once(nonce: Path) -> bool:
    """Whether a file that is there is not created again; what was written is read back."""
    data = os.urandom(32)
    try:
        atomic_write(nonce, data, create_only=True)
    except StoreError:  # no hard links
        nonce.write_bytes(data)
        return False
    try:
        atomic_write(nonce, b"two", create_only=True)
    except Conflict:
        if nonce.read_bytes() == data:
            return True
        raise StorageError(
            f"cannot write {nonce.parent}",
            why="what is read back there is not what was written",
            fix="check that disk, or how it is mounted",
        ) from None
    return False


def _locks(nonce: Path) -> bool:
    """Whether a file that is locked cannot be locked again."""
    import fcntl

    with nonce.open("rb") as one, nonce.open("rb") as other:
        try:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _copy(source: Path, target: Path, progress: Progress, *, follow: bool = True) -> None:
    """Copy a file and sync it; a symlink or a device in a place is not a file of an artifact."""
    flags = os.O_RDONLY | (0 if follow else os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(os.open(source, flags), "rb") as reader, target.open("xb") as writer:
        while piece := reader.read(_CHUNK):
            writer.write(piece)
            progress(len(piece))
        writer.flush()
        os.fsync(writer.fileno())


@hookimpl
def register_storage_backends(register: Callable[[type[StorageBackend]], None]) -> None:
    register(FilePlace)
