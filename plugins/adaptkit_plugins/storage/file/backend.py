"""One adapter's folder on a file system."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from adaptkit.errors import Corrupt, StoreError
from adaptkit.extend import attachments, no_progress
from adaptkit.extend.versioned_storage import (
    ALIASES,
    LARGEST_MANIFEST,
    MANIFEST,
    VersionedStorage,
    alias_table,
    alias_table_bytes,
    manifest_bytes,
)
from adaptkit.io.files import atomic_write, fsync_directory, sha256_file
from adaptkit.io.safe_paths import check_relative
from adaptkit_plugins.storage.file import address
from adaptkit_plugins.storage.file.errors import os_errors
from adaptkit_plugins.storage.file.probe import probe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from adaptkit.extend import Bundle, Progress, Promise
    from adaptkit.types import FileEntry, PlacedVersion

_VERSION = re.compile(r"v([1-9][0-9]{0,8})")
_WORK = ".adaptkit-"
_STALE = 24 * 3600  # seconds after which a hidden folder was certainly abandoned
_CHUNK = 1 << 20
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST}


class FileBackend(VersionedStorage):
    """One adapter's folder on a file system."""

    schemes: ClassVar[tuple[str, ...]] = ("file",)

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.folder = address.folder(url)

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
        with self._os_errors("read"), (self.folder / path).open("rb") as file:
            data = file.read(LARGEST_MANIFEST + 1)
        if len(data) > LARGEST_MANIFEST:
            raise Corrupt(
                f"{self.url}/{path} is too large", why=f"more than {LARGEST_MANIFEST:,} bytes"
            )
        return data

    def publish(
        self, placed: PlacedVersion, bundle: Bundle, held: Mapping[str, str], progress: Progress
    ) -> int | None:
        with self._os_errors("write"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            work = self.folder / f"{_WORK}{os.urandom(8).hex()}"
            work.mkdir()
            try:
                sent = sum(
                    self._bring(entry, bundle.paths[entry.path], work, held, progress)
                    for entry in bundle.files
                )
                atomic_write(work / MANIFEST, manifest_bytes(placed))
                fsync_directory(work)
                try:
                    work.rename(self.folder / f"v{placed.number}")
                except OSError as error:
                    if error.errno in _TAKEN:
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
            with self._os_errors("read"):
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(
                    self.folder / f"v{version.number}" / entry.path, target, progress, follow=False
                )

    def probe(self) -> Promise:
        with self._os_errors("write"):
            existed = self.folder.is_dir()
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                return probe(self.folder / f"{_WORK}probe-{os.urandom(8).hex()}")
            finally:
                if not existed:
                    self.folder.rmdir()

    def aliases(self) -> Mapping[str, int]:
        if not (self.folder / ALIASES).is_file():
            return {}
        return alias_table(self.url, self._small_file(ALIASES))

    def set_alias(self, alias: str, number: int) -> None:
        import fcntl

        with self._os_errors("write"):
            descriptor = os.open(self.folder / f"{_WORK}refs.lock", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                table = dict(self.aliases()) | {alias: number}
                atomic_write(self.folder / ALIASES, alias_table_bytes(table))
            finally:
                os.close(descriptor)

    def attach(self, number: int, kind: str, files: Mapping[str, bytes]) -> str:
        attachments.check(self.url, files)
        if number not in self.numbers():
            raise attachments.absent(self.url, number)
        name = attachments.identity(files)
        with self._os_errors("write"):
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
                    if error.errno not in _TAKEN:  # then it is there already
                        raise
                fsync_directory(target.parent)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return name

    def attached(self, number: int, kind: str) -> tuple[Mapping[str, bytes], ...]:
        folder = attachments.folder(number, kind)
        names = [name for name in self._named(folder) if attachments.ID.fullmatch(name)]
        paths = (
            f"{folder}/{name}/{file}"
            for name in names[: attachments.MOST]
            for file in self._named(f"{folder}/{name}")
        )
        return attachments.read(paths, number, kind, self._small_file)

    def _named(self, path: str) -> list[str]:
        with self._os_errors("read"):
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
        with self._os_errors("read"):
            try:
                names = [entry.name for entry in os.scandir(self.folder) if entry.is_dir()]
            except FileNotFoundError:
                return []
        return sorted(int(match[1]) for name in names if (match := _VERSION.fullmatch(name)))

    def _bring(
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

    def _os_errors(self, doing: str) -> AbstractContextManager[None]:
        return os_errors(doing, self.url, self.folder)


def _copy(source: Path, target: Path, progress: Progress, *, follow: bool = True) -> None:
    """Copy a file and sync it; a symlink or a device in a place is not a file of an artifact."""
    flags = os.O_RDONLY | (0 if follow else os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(os.open(source, flags), "rb") as reader, target.open("xb") as writer:
        while piece := reader.read(_CHUNK):
            writer.write(piece)
            progress(len(piece))
        writer.flush()
        os.fsync(writer.fileno())
