"""One adapter's folder on a file system."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from adaptkit.errors import Corrupt
from adaptkit.extend import attachments, no_progress
from adaptkit.extend.versioned_storage import (
    ALIASES,
    LARGEST_MANIFEST,
    MANIFEST,
    VersionedStorage,
    alias_table,
    alias_table_bytes,
    damaged,
    manifest_bytes,
)
from adaptkit.io.files import atomic_write, fsync_directory
from adaptkit.io.foreign_files import ForeignFolder
from adaptkit.io.safe_paths import check_relative
from adaptkit_plugins.storage.file import address
from adaptkit_plugins.storage.file.errors import os_errors
from adaptkit_plugins.storage.file.probe import probe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from adaptkit.extend import Bundle, Progress, Promise
    from adaptkit.types import FileEntry, PlacedVersion

_VERSION = re.compile(r"v([1-9][0-9]{0,8})")
_WORK = ".adaptkit-"
_STALE = 24 * 3600  # seconds after which a hidden folder was certainly abandoned
_CHUNK = 1 << 20
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileBackend(VersionedStorage):
    """One adapter's folder on a file system."""

    schemes: ClassVar[tuple[str, ...]] = ("file",)

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.folder = address.folder(url)
        self._files = ForeignFolder(self.folder, url)

    def numbers(self) -> tuple[int, ...]:
        with self._os_errors("read"):
            return tuple(
                number
                for number in _numbered(self._files.folders())
                if self._files.has(f"v{number}/{MANIFEST}")
            )

    def taken(self) -> int:
        with self._os_errors("read"):
            folders = set(self._files.folders())
            return max(
                (
                    number
                    for number in _numbered(self._files.names())
                    if f"v{number}" not in folders or self._files.names(f"v{number}")
                ),
                default=0,
            )

    def manifest_of(self, number: int) -> bytes:
        return self._small_file(f"v{number}/{MANIFEST}")

    def damage(self, version: PlacedVersion) -> Mapping[str, str]:
        entries = version.manifest.files + version.manifest.extras
        found: dict[str, str] = {}
        sizes: dict[str, int | None] = {}
        with self._os_errors("read"):
            for entry in entries:
                try:
                    sizes[entry.path] = self._files.size(f"v{version.number}/{entry.path}")
                except (FileNotFoundError, NotADirectoryError):
                    sizes[entry.path] = None
                except Corrupt as error:
                    found[entry.path] = error.why
        return {**damaged(entries, sizes), **found}

    def repair(
        self,
        version: PlacedVersion,
        files: Sequence[FileEntry],
        paths: Mapping[str, Path],
        progress: Progress = no_progress,
    ) -> int:
        with self._os_errors("write"):
            for entry in files:
                work = self.folder / f"{_WORK}{os.urandom(8).hex()}"
                try:
                    _copy(paths[entry.path], work, progress)
                    self._files.replace(work, f"v{version.number}/{check_relative(entry.path)}")
                finally:
                    work.unlink(missing_ok=True)
        return sum(entry.size for entry in files)

    def _small_file(self, path: str, largest: int = LARGEST_MANIFEST) -> bytes:
        try:
            return self._files.read(path, largest)
        except OSError as error:
            with self._os_errors("read"):
                raise error from None

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
                self._files.copy(f"v{version.number}/{entry.path}", entry.size, target, progress)

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
        with self._os_errors("read"):
            if not self._files.has(ALIASES):
                return {}
            data = self._files.read(ALIASES, LARGEST_MANIFEST)
        return alias_table(self.url, data)

    def set_alias(self, alias: str, number: int) -> None:
        import fcntl

        with self._os_errors("write"):
            descriptor = os.open(self.folder / f"{_WORK}refs.lock", _LOCK, 0o666)
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
            folder = attachments.folder(number, kind)
            self._files.names(folder)  # refuses a link on the way
            target = self.folder / folder / name
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
        with self._os_errors("read"):
            names = [name for name in self._files.names(folder) if attachments.ID.fullmatch(name)]
            paths = [
                f"{folder}/{name}/{file}"
                for name in names[: attachments.MOST]
                for file in self._files.names(f"{folder}/{name}")
            ]
        return attachments.read(
            paths, number, kind, lambda path: self._small_file(path, attachments.LARGEST)
        )

    def names(self) -> tuple[str, ...]:
        with self._os_errors("read"):
            return tuple(sorted(self._places()))

    def _places(self) -> Iterator[str]:
        """The folders below this one, at most two deep, in which a version is committed."""
        for name in self._files.folders():
            for place in (name, *(f"{name}/{below}" for below in self._files.folders(name))):
                if any(
                    self._files.has(f"{place}/{version}/{MANIFEST}")
                    for version in self._files.folders(place)
                    if version.startswith("v")
                ):
                    yield place

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
        earlier = held.get(entry.sha256)
        if earlier and self._files.link(earlier, entry.size, entry.sha256, target):
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


def _numbered(names: Iterable[str]) -> list[int]:
    return sorted(int(match[1]) for name in names if (match := _VERSION.fullmatch(name)))


def _copy(source: Path, target: Path, progress: Progress) -> None:
    """Copy a file of this workspace to a new file, and sync it."""
    with source.open("rb") as reader, target.open("xb") as writer:
        while piece := reader.read(_CHUNK):
            writer.write(piece)
            progress(len(piece))
        writer.flush()
        os.fsync(writer.fileno())
