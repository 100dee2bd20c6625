"""What was attached to artifacts, as a workspace keeps it: `FOLDER/<digest>/<id>/` with a few small files each.

The id is made of the content, so the same files twice are kept once, and each set appears whole or not at all.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from adaptkit.extend import attachments
from adaptkit.io.files import atomic_write, fsync_directory, os_errors
from adaptkit.store.copy import is_regular

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class KeptAttachments:
    """The attachments of one kind, below `root`."""

    root: Path

    def of(self, digest: str) -> list[Path]:
        """The folder of each attachment of an artifact, sorted by id; one that holds more than plain files is left out."""
        folder = self._folder(digest)
        with os_errors("read", folder):
            if not folder.is_dir() or folder.is_symlink():
                return []
            found = (path for path in folder.glob("*") if attachments.ID.fullmatch(path.name))
            return sorted(path for path in found if _plain(path))

    def keep(self, digest: str, files: Mapping[str, bytes]) -> bool:
        """Keep one attachment; whether it is new here."""
        folder = self._folder(digest)
        target = folder / attachments.identity(files)
        if target.is_dir():
            return False
        with os_errors("write", folder):
            folder.mkdir(parents=True, exist_ok=True)
            work = Path(mkdtemp(prefix=".new-", dir=folder))
            try:
                for name, data in files.items():
                    atomic_write(work / name, data, mode=0o600)
                work.rename(target)
                fsync_directory(folder)
            except OSError:
                if not target.is_dir():  # else somebody else kept the same at the same moment
                    raise
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return True

    def drop(self, digest: str, *, but: str) -> None:
        """Delete every attachment of an artifact but one."""
        for path in self.of(digest):
            if path.name != but:
                with os_errors("delete", path):
                    shutil.rmtree(path)

    def _folder(self, digest: str) -> Path:
        return self.root / digest.removeprefix("sha256:")


def _plain(folder: Path) -> bool:
    """Whether this is a folder of plain files: a link would have another file read, and sent, in its place."""
    return (
        folder.is_dir()
        and not folder.is_symlink()
        and all(is_regular(path) for path in folder.iterdir())
    )
