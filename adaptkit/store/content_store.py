"""The content-addressed store: blobs, manifests, and trees checked out from them.

    objects/ab/<sha256>      the bytes, once each, mode 0444
    manifests/<sha256>.json  what an artifact is made of; written after its blobs
    trees/<sha256>/          an artifact as a folder, hard links to blobs; made on demand, may be deleted
    tmp/  quarantine/        work in progress; blobs that were found to be corrupt
    leases/                  what running work still needs (see `leases`)
    trash/<when>/            what gc removed; a blob that is needed after all is taken back from there

Notable choices:
- a blob appears by `link()`, after fsync, so a crash leaves the old state or the new one
- everything is hashed again before each use; an earlier check is never relied on
- the first manifest of a digest stays, but for its extras, which `correct` replaces
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from adaptkit.errors import Conflict, Corrupt, StoreError
from adaptkit.io.file_lock import exclusive_lock
from adaptkit.io.files import (
    atomic_write,
    fsync_directory,
    link_new,
    links_unknown,
    open_temp,
    os_errors,
    sha256_file,
)
from adaptkit.io.safe_paths import check_paths, check_relative
from adaptkit.store.copy import copy_across, copy_hashing, files_below, is_regular
from adaptkit.store.leases import Leases
from adaptkit.types import FileEntry, Manifest, canonical_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

_HEX = re.compile(r"[0-9a-f]{64}")
_BUILDS = 5  # attempts to rebuild a broken tree before it is an error


class Store:
    """Artifacts by digest, in the folder `root`. Safe to use from many processes at once.

    `spare` is a folder of this user's own, where trees are built when `root` may only be read.
    """

    def __init__(self, root: Path, spare: Callable[[], Path] | None = None) -> None:
        self.root, self._spare = root, spare
        self.leases = Leases(root / "leases")

    @property
    def read_only(self) -> bool:
        """Whether this process may not write here: a mount, or the rights of a folder."""
        return self.root.is_dir() and not os.access(self.root, os.W_OK)

    def working(self) -> AbstractContextManager[None]:
        """Inside, gc leaves alone what was put or kept."""
        return self.leases.working()

    def keep(self, manifest: Manifest) -> None:
        """Inside `working`: this artifact's blobs, whether they are here or are about to be, stay."""
        self.leases.keep([_hex(manifest.digest), *(entry.sha256 for entry in _checked(manifest))])

    # ------------------------------------------------------------ blobs

    def has(self, sha256: str) -> bool:
        """Whether a blob exists (not whether its bytes are intact)."""
        return is_regular(self._object(sha256))

    def untrash(self, sha256: str) -> bool:
        """Take a blob back out of the trash; False when it is not in there."""
        for trashed in (self.root / "trash").glob(f"*/{sha256}"):
            target = self._object(sha256)
            with os_errors("write", target), suppress(FileNotFoundError):  # another process did it
                self._folder(target.parent)
                trashed.rename(target)
                fsync_directory(target.parent)
                return True
        return False

    def blob(self, sha256: str) -> Path:
        """The file of a blob; `StoreError` when it is missing. Not hashed: see `tree` and `verify`."""
        path = self._object(sha256)
        if not is_regular(path):
            raise StoreError(
                f"the blob {sha256} is missing",
                why=f"{path} does not exist",
                fix=self._how_to_replace(),
            )
        return path

    # ------------------------------------------------------------ artifacts

    def add(self, manifest: Manifest, sources: Mapping[str, Path | bytes]) -> Manifest:
        """Put an artifact in: blobs, then manifest. Returns the manifest that the store holds from now on.

        `sources` gives each file's bytes by its path; a file may be left out whose blob is here.
        `Corrupt` when bytes differ from the manifest.
        """
        with self.working():
            self.keep(manifest)
            return self._add(manifest, sources)

    def _add(self, manifest: Manifest, sources: Mapping[str, Path | bytes]) -> Manifest:
        entries = _checked(manifest)
        for entry in entries:
            if entry.path in sources:
                self._put(sources[entry.path], entry)
            elif not self.has(entry.sha256) and not self.untrash(entry.sha256):
                raise StoreError(
                    f"the artifact {manifest.digest} lacks the file '{entry.path}'",
                    why="its bytes were neither given nor stored before",
                )
        self._sync(entries)
        path = self._manifest(manifest.digest)
        self._folder(path.parent)
        with suppress(Conflict):
            atomic_write(path, canonical_json(manifest.to_json()).encode(), create_only=True)
        try:
            return self.manifest(manifest.digest)
        except Corrupt:  # it was moved away: the one given takes its place
            atomic_write(path, canonical_json(manifest.to_json()).encode())
            return manifest

    def correct(self, manifest: Manifest, given: Mapping[str, bytes] | None = None) -> None:
        """Let an artifact have these extras instead, given or here: the old ones or the new, at any moment."""
        with self.working():
            self.keep(manifest)
            stored = self.manifest(manifest.digest)
            for entry in manifest.extras:
                if given and entry.path in given:
                    self._put(given[entry.path], entry)
                self.blob(entry.sha256)
            self._sync(manifest.extras)
            corrected = replace(stored, extras=manifest.extras)
            path = self._manifest(manifest.digest)
            atomic_write(path, canonical_json(corrected.to_json()).encode())

    def manifest(self, digest: str) -> Manifest:
        """The manifest of an artifact; `StoreError` when it is not here, `Corrupt` when it cannot be read."""
        path = self._manifest(digest)
        try:
            with os_errors("read", path):
                data = path.read_bytes()
        except StoreError as error:
            if path.exists():
                raise
            raise StoreError(
                f"{digest} is not in the store",
                why=f"{path} does not exist",
                fix=self._how_to_replace(),
            ) from error
        try:
            manifest = Manifest.from_json(json.loads(data))
            if manifest.digest != digest:
                raise ValueError(f"it is the manifest of {manifest.digest}")  # noqa: TRY301
            _checked(manifest)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            self._quarantine(path)
            raise Corrupt(
                f"the manifest of {digest} is corrupt",
                why=str(error),
                fix=self._how_to_replace(),
            ) from error
        return manifest

    def holds(self, digest: str) -> bool:
        """Whether an artifact is here (not whether its bytes are intact)."""
        return is_regular(self._manifest(digest))

    def digests(self) -> tuple[str, ...]:
        """Every artifact's digest, sorted."""
        manifests = (self.root / "manifests").glob("*.json")
        return tuple(
            sorted(f"sha256:{path.stem}" for path in manifests if _HEX.fullmatch(path.stem))
        )

    def verify(self, digest: str) -> Manifest:
        """Hash every file again; `Corrupt` names those that changed or are missing, after quarantining them."""
        manifest = self.manifest(digest)
        bad = [
            f"'{entry.path}' {why}" for entry in _checked(manifest) if (why := self._why_bad(entry))
        ]
        if bad:
            raise Corrupt(
                f"the artifact {digest} is damaged: {', '.join(bad)}",
                why="the bytes in the store have changed",
                fix=self._how_to_replace(),
            )
        return manifest

    def tree(self, digest: str) -> Path:
        """The artifact as a folder, every byte hashed again first; `Corrupt` names what is damaged."""
        manifest = self.verify(digest)
        path = self.root / "trees" / _hex(digest)
        if self._tree_is_sound(path, manifest):
            return path
        if self._spare and self.read_only:
            path = self._spare() / _hex(digest)
            if self._tree_is_sound(path, manifest):
                return path
        trees = self._folder(path.parent)
        # without the lock, a tree that another process just built could be taken for the broken one
        with exclusive_lock(trees.with_name(f"{trees.name}.lock")):
            for _ in range(_BUILDS):
                if self._tree_is_sound(path, manifest):
                    return path
                with os_errors("build", path):
                    self._discard(path)
                    self._build(path, manifest)
        raise StoreError(
            f"cannot build {path}",
            why="something keeps changing it",
            fix="look for who writes there",
        )

    # ------------------------------------------------------------ how

    def _put(self, source: Path | bytes, entry: FileEntry) -> None:
        check_relative(entry.path)
        folder = self._folder(self.root / "tmp")
        with os_errors("write", folder):
            descriptor, temp = open_temp(folder, "blob")
        try:
            try:
                size, sha256 = copy_hashing(source, descriptor, self.root)
                copied = FileEntry(entry.path, size, sha256)
                if copied != entry:
                    raise Corrupt(
                        f"the file '{entry.path}' differs from its manifest",
                        why=f"expected {_described(entry)}, got {_described(copied)}",
                        fix="fetch it again, or add the folder again if it changed meanwhile",
                    )
                self._link(descriptor, temp, entry)
            finally:
                os.close(descriptor)
        finally:
            with suppress(OSError):  # gc clears it away
                temp.unlink()

    def _link(self, descriptor: int, temp: Path, entry: FileEntry) -> None:
        target = self._object(entry.sha256)
        with os_errors("write", target):
            with suppress(FileNotFoundError):
                status = target.lstat()  # a dangling link exists too, and is no blob
                if stat.S_ISREG(status.st_mode) and status.st_size == entry.size:
                    return
                self._quarantine(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.fchmod(descriptor, 0o444)
            os.fsync(descriptor)
            try:
                link_new(temp, target)  # False: another process was first, with the same bytes
            except OSError as error:
                if not links_unknown(error):
                    raise
                if error.errno == errno.EXDEV:  # tmp/ is another file system
                    copy_across(descriptor, target)
                else:
                    temp.replace(target)

    def _sync(self, entries: Iterable[FileEntry]) -> None:
        """Make the names of blobs durable, those of a process that was first included."""
        for folder in sorted({self._object(entry.sha256).parent for entry in entries}):
            fsync_directory(folder)
        fsync_directory(self._folder(self.root / "objects"))

    def _why_bad(self, entry: FileEntry) -> str:
        path = self._object(entry.sha256)
        try:
            status = path.lstat()
        except FileNotFoundError:
            return self._why_bad(entry) if self.untrash(entry.sha256) else "is missing"
        except NotADirectoryError:
            return "is missing"
        if not stat.S_ISREG(status.st_mode):
            self._quarantine(path)
            return "is a link or a folder"
        if status.st_size == entry.size and sha256_file(path) == entry.sha256:
            return ""
        self._quarantine(path)
        return "is corrupt"

    def _how_to_replace(self) -> str:
        if self.read_only:
            return "nothing can be written here: repair the store where it may be written"
        if any((self.root / "quarantine").glob("*")):
            return f"corrupt files are in {self.root / 'quarantine'}; add or pull the adapter again"
        return "add or pull the adapter again"

    def _quarantine(self, path: Path) -> None:
        if self.read_only:
            return  # it is reported all the same
        folder = self._folder(self.root / "quarantine")
        target = folder / path.name
        if os.path.lexists(target):
            target = folder / f"{path.name}.{secrets.token_hex(4)}"
        with os_errors("move", path), suppress(FileNotFoundError):  # another process did it
            path.rename(target)

    def _tree_is_sound(self, path: Path, manifest: Manifest) -> bool:
        """Whether the tree holds exactly the artifact's files. A hard link to a blob was hashed with it."""
        entries = _checked(manifest)
        try:
            return self._holds(path, entries)
        except FileNotFoundError:  # another process is rebuilding it
            return False

    def _holds(self, path: Path, entries: Iterable[FileEntry]) -> bool:
        if not path.is_dir() or {p.relative_to(path).as_posix() for p in files_below(path)} != {
            e.path for e in entries
        }:
            return False
        return all(self._same(path / entry.path, entry) for entry in entries)

    def _same(self, file: Path, entry: FileEntry) -> bool:
        if file.is_symlink():
            return False
        return file.samefile(self.blob(entry.sha256)) or sha256_file(file) == entry.sha256

    def _build(self, path: Path, manifest: Manifest) -> None:
        temp = path.parent / f".tree.{secrets.token_hex(8)}"
        temp.mkdir()
        try:
            for entry in _checked(manifest):
                target = temp / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                blob = self.blob(entry.sha256)
                try:
                    target.hardlink_to(blob)
                except OSError as error:
                    if not links_unknown(error):
                        raise
                    shutil.copy(blob, target)  # keeps the mode
            try:
                temp.rename(path)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:  # another process was first
                    raise
        finally:
            shutil.rmtree(temp, ignore_errors=True)

    def _discard(self, path: Path) -> None:
        """Take a broken tree away in one step."""
        temp = path.parent / f".old.{secrets.token_hex(8)}"
        with suppress(FileNotFoundError):
            path.rename(temp)
            if temp.is_dir():
                shutil.rmtree(temp, ignore_errors=True)
            else:
                temp.unlink()

    def _object(self, sha256: str) -> Path:
        sha256 = _hex(f"sha256:{sha256}")
        return self.root / "objects" / sha256[:2] / sha256

    def _manifest(self, digest: str) -> Path:
        return self.root / "manifests" / f"{_hex(digest)}.json"

    def _folder(self, path: Path) -> Path:
        if not path.is_dir():
            with os_errors("make", path):
                path.mkdir(parents=True, exist_ok=True)
            fsync_directory(path.parent)
        return path


def _hex(digest: str) -> str:
    kind, _, digits = digest.partition(":")
    if kind != "sha256" or not _HEX.fullmatch(digits):
        raise StoreError(
            f"'{digest}' is not a digest", why="a digest is sha256: and 64 lower-case hex digits"
        )
    return digits


def _described(entry: FileEntry) -> str:
    return f"{entry.size:,} bytes sha256:{entry.sha256}"


def _checked(manifest: Manifest) -> tuple[FileEntry, ...]:
    """The files and extras of a manifest, which may come from anywhere, with paths that can be used."""
    entries = manifest.files + manifest.extras
    check_paths([entry.path for entry in entries])
    return entries
