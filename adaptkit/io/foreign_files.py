"""The one way to read files of a folder that others may write to: a team's share, a stick, a cloned repository.

Notable choices:
- every step below the root is opened by itself, relative to the one before and without following links (`openat`,
  `O_NOFOLLOW`): a link on the way is an error, whatever it points at, also when it is put there meanwhile
- only regular files are opened: a FIFO would wait for a writer for ever, a device may do something when it is opened
- the size is known before a byte is read, and is the most that is read: a file that grows is an error
- the root itself is the reader's own choice, and may be a link
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from adaptkit.errors import Corrupt
from adaptkit.io.progress.progress import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from adaptkit.io.progress.progress import Progress

MOST_NAMES = 100_000  # in one folder
_CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_STEP = _FOLDER | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
}
_TRUST = "do not trust who can write there; ask for a new push"


@dataclass(frozen=True, slots=True)
class ForeignFolder:
    """What is below `root`, read as data. Paths are relative, with `/`; what is missing is `FileNotFoundError`.

    `label` is how errors call the root, such as its URL. What is not a plain file or folder is `Corrupt`.
    """

    root: Path
    label: str

    def read(self, path: str, largest: int) -> bytes:
        """A small file; `Corrupt` when it holds more than `largest` bytes."""
        with self.open(path) as (descriptor, size):
            data = bytearray()
            while size <= largest >= len(data) and (piece := os.read(descriptor, _CHUNK)):
                data += piece
            if max(size, len(data)) > largest:
                raise Corrupt(
                    f"{self.label}/{path} is too large", why=f"more than {largest:,} bytes"
                )
        return bytes(data)

    def copy(self, path: str, size: int, target: Path, progress: Progress = no_progress) -> None:
        """Copy a file of a known size to a new file, and sync it; one of another size is not read."""
        with self.open(path) as (descriptor, found):
            self._check_size(path, found, size)
            with target.open("xb") as writer:
                left = size
                while piece := os.read(descriptor, min(_CHUNK, left + 1)):
                    left -= len(piece)
                    if left < 0:
                        raise self._grew(path, size)
                    writer.write(piece)
                    progress(len(piece))
                writer.flush()
                os.fsync(writer.fileno())

    def link(self, path: str, size: int, digest: str, target: Path) -> bool:
        """Hard-link a file to a new name if its bytes have this size and sha256; whether it was."""
        try:
            with self.open(path) as (descriptor, found):
                if found != size or _hash(descriptor, size) != digest:
                    return False
                before = os.fstat(descriptor)
            folder, _, name = path.rpartition("/")
            with self._folder(folder) as above:
                os.link(name, target, src_dir_fd=above, follow_symlinks=False)
            after = target.lstat()
        except (OSError, Corrupt):
            return False
        if (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino):
            return True
        target.unlink()  # another file took its name meanwhile
        return False

    def replace(self, source: Path, path: str) -> None:
        """Rename a file of the same file system to `path`; folders that are missing are made, links are not followed."""
        parts = path.split("/")
        for count in range(1, len(parts)):
            with self._folder("/".join(parts[: count - 1])) as above, suppress(FileExistsError):
                os.mkdir(parts[count - 1], dir_fd=above)
        with self._folder("/".join(parts[:-1])) as above:
            os.replace(source, parts[-1], dst_dir_fd=above)
            os.fsync(above)

    def size(self, path: str) -> int:
        """How many bytes a plain file has; nothing of it is read."""
        folder, _, name = path.rpartition("/")
        with self._folder(folder) as above:
            return self._plain(path, os.stat(name, dir_fd=above, follow_symlinks=False)).st_size

    def names(self, path: str = "") -> tuple[str, ...]:
        """What a folder holds, by name, in order; nothing when it is missing or is a file."""
        return tuple(name for name, _ in self._entries(path))

    def folders(self, path: str = "") -> tuple[str, ...]:
        """The folders in a folder, by name, in order; links to folders are none."""
        return tuple(name for name, is_folder in self._entries(path) if is_folder)

    def has(self, path: str) -> bool:
        """Whether anything has this path, whatever it is; a link on the way leads to nothing."""
        folder, _, name = path.rpartition("/")
        try:
            with self._folder(folder) as above:
                os.stat(name, dir_fd=above, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError, Corrupt):
            return False
        return True

    @contextmanager
    def open(self, path: str) -> Iterator[tuple[int, int]]:
        """A plain file, open for reading, and its size; `Corrupt` when it is something else, or a link leads there."""
        folder, _, name = path.rpartition("/")
        with self._folder(folder) as above:
            # looked at first: some devices act when they are opened
            self._plain(path, os.stat(name, dir_fd=above, follow_symlinks=False))
            try:
                descriptor = os.open(name, _FILE, dir_fd=above)
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.ENXIO}:  # it was replaced meanwhile
                    raise self._refused(path, "no plain file any more") from None
                raise
        try:
            yield descriptor, self._plain(path, os.fstat(descriptor)).st_size
        finally:
            os.close(descriptor)

    # ------------------------------------------------------------ how

    @contextmanager
    def _folder(self, path: str) -> Iterator[int]:
        """A folder below the root, reached without following a link."""
        descriptor, done = os.open(self.root, _FOLDER), ""
        try:
            for part in filter(None, path.split("/")):
                if part == "..":
                    raise self._refused(path, "a path out of it")
                done = f"{done}/{part}".strip("/")
                try:
                    below = os.open(part, _STEP, dir_fd=descriptor)
                except OSError as error:
                    if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                        kind = os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode
                        if stat.S_ISLNK(kind):
                            raise self._refused(done, _KINDS[stat.S_IFLNK]) from None
                        if stat.S_ISDIR(kind):  # it was something else a moment ago
                            raise self._refused(done, "replaced while it is read") from None
                    raise
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def _entries(self, path: str) -> list[tuple[str, bool]]:
        try:
            with self._folder(path) as descriptor, os.scandir(descriptor) as listed:
                found = []
                for entry in listed:
                    found.append((entry.name, entry.is_dir(follow_symlinks=False)))
                    if len(found) > MOST_NAMES:
                        raise Corrupt(
                            f"{self.label}/{path} holds too much".replace("/ ", " "),
                            why=f"more than {MOST_NAMES:,} names are in it",
                        )
                return sorted(found)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            if not path:
                raise
            return []

    def _plain(self, path: str, found: os.stat_result) -> os.stat_result:
        if stat.S_ISREG(found.st_mode):
            return found
        raise self._refused(path, _KINDS.get(stat.S_IFMT(found.st_mode), "no file"))

    def _check_size(self, path: str, found: int, size: int) -> None:
        if found != size:
            raise Corrupt(
                f"{self.label}/{path} is corrupt",
                why=f"{path.rpartition('/')[2]} has {found:,} bytes, its manifest says {size:,}",
                fix="pull another version, or ask for a new push",
            )

    def _grew(self, path: str, size: int) -> Corrupt:
        return Corrupt(
            f"{self.label}/{path} is corrupt",
            why=f"it grew beyond its {size:,} bytes while it was read",
            fix="pull another version, or ask for a new push",
        )

    def _refused(self, path: str, kind: str) -> Corrupt:
        return Corrupt(
            f"{self.label}/{path} is refused",
            why=f"{path} is {kind}, and only plain files of the place itself are read",
            fix=_TRUST,
        )


def _hash(descriptor: int, size: int) -> str:
    hashed, left = sha256(), size
    while piece := os.read(descriptor, min(_CHUNK, left + 1)):
        left -= len(piece)
        if left < 0:
            return ""
        hashed.update(piece)
    return hashed.hexdigest()
