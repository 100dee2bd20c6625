"""Where on this machine a base was seen: its folder by the hash of its weights, in the cache.

It is a hint only: who follows it measures the folder again, which costs nothing while no file in it has changed.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError, StoreError
from adaptkit.io.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adaptkit.types import BaseIdentity

_LONGEST = 8_192  # bytes of a path that are read


def remember_folder(base: BaseIdentity, folder: Path, cache: Path) -> None:
    """Note the folder of a measured base; a cache that cannot be written notes nothing."""
    text = str(folder.absolute())
    for file in _files(base, cache):
        if _noted(file) != text:
            with suppress(OSError, StoreError):
                cache.mkdir(parents=True, exist_ok=True)
                atomic_write(file, text.encode())


def folder_of(
    base: BaseIdentity, cache: Path, measure: Callable[[Path], BaseIdentity]
) -> Path | None:
    """The folder that holds this base now; None where it was not seen, or holds something else by now."""
    for file in _files(base, cache):
        noted = _noted(file)
        if noted and Path(noted).is_dir():
            with suppress(AdaptkitError, OSError):
                there = measure(Path(noted))
                if set(_weights(there)) & set(_weights(base)):
                    return Path(noted)
    return None


def _weights(base: BaseIdentity) -> Iterator[str]:
    return (level.value for level in base.levels if level.kind in {"tm1", "fs1"})


def _files(base: BaseIdentity, cache: Path) -> Iterator[Path]:
    for value in _weights(base):
        kind, _, digits = value.partition(":")
        yield cache / f"folder-{kind}-{digits[:40]}.txt"


def _noted(file: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        if file.stat().st_size <= _LONGEST:
            return file.read_text("utf-8")
    return ""
