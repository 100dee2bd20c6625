"""`file://`: a folder that a team mounts.

Notable choices:
- a version is built in a hidden folder beside its place and renamed into it, so it appears whole; a rename
  onto a folder that has something in it fails, which is how a lost race shows
- a file that an earlier version has, and whose bytes still are what they should be, is hard-linked
- an interrupted push leaves a hidden folder that no reader sees; later pushes delete those older than a day
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.hookspecs import hookimpl
from adaptkit_plugins.storage.file.backend import FileBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend import StorageBackend

__all__ = ["FileBackend"]


@hookimpl
def register_storage_backends(register: Callable[[type[StorageBackend]], None]) -> None:
    """Register the backend."""
    register(FileBackend)
