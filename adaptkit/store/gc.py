"""gc: remove from the store what no version needs. Mark and sweep, beside running work, and every step can be killed.

Notable choices:
- a blob is removed by a rename into the trash, and only then are the leases and the registry read once more;
  what came to be needed in between goes back (see `leases` for why that order is safe)
- what a killed gc left in the trash and is needed goes back with the next one, or by itself when it is used
- only what is older than the grace period is touched; a clock that was set back makes things younger, never older
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptkit.io.file_lock import exclusive_lock
from adaptkit.io.files import fsync_directory, os_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from adaptkit.store.content_store import Store

GRACE = 24 * 3600.0
HOUR = 3600.0  # running work touches its temporary files more often than this
TRASH = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Swept:
    """What a gc did: blobs and manifests moved to the trash, what went back, and what was deleted for good."""

    swept: tuple[str, ...] = ()
    swept_bytes: int = 0
    returned: tuple[str, ...] = ()
    freed: int = 0
    freed_bytes: int = 0
    purged: tuple[str, ...] = ()
    dry_run: bool = False


def sweep(
    store: Store,
    kept: Callable[[], set[str]],
    *,
    grace: float = GRACE,
    trash: float = TRASH,
    dry_run: bool = False,
    now: Callable[[], float] = time.time,
    work: Sequence[Path] = (),
) -> Swept:
    """Move what is not needed to the trash, and delete what has been there for longer than `trash` seconds.

    `work` are folders where killed work may have left something. `kept` returns, freshly each time, the hex digits of every artifact and of every blob that a registry needs.
    """
    if not store.root.is_dir():
        return Swept(dry_run=dry_run)
    with exclusive_lock(store.root / "gc.lock"):  # one gc at a time
        young = now() - grace
        old = [path for path in _things(store) if _older(path, young)]
        needed = kept() | store.leases.held()
        unneeded = [path for path in old if path.stem not in needed]
        size = sum(_size(path) for path in unneeded)
        expired = [run for run in _runs(store) if _older(run, now() - trash)]
        if dry_run:
            gone = [path for run in expired for path in run.iterdir()]
            return Swept(
                tuple(sorted(p.stem for p in unneeded)),
                size,
                (),
                len(gone),
                sum(map(_size, gone)),
                dry_run=True,
            )
        run = _move_to_trash(store, unneeded)
        needed = store.leases.held()  # in this order: work that ended its lease has written its row
        needed |= kept()
        returned = _put_back(store, needed)
        swept = [path.stem for path in unneeded if path.stem not in returned]
        _clear_trees(
            store,
            kept_trees={path.stem for path in (store.root / "manifests").glob("*.json")},
            old=now() - max(grace, HOUR),
        )
        _clear_moments(store)
        if not store.leases.held():
            _clear_work(
                (store.root / "tmp", *_fans(store), *work),
                now() - max(grace, HOUR),
            )
        freed, freed_bytes = _delete(expired if trash > 0 else _runs(store))
        if run is not None and not returned and trash > 0:
            fsync_directory(run)
        return Swept(tuple(sorted(swept)), size, tuple(sorted(returned)), freed, freed_bytes)


def trash_size(store: Store) -> int:
    """Bytes that wait in the trash."""
    return sum(_size(path) for run in _runs(store) for path in run.iterdir())


def _things(store: Store) -> Iterator[Path]:
    for path in (
        *(store.root / "manifests").glob("*.json"),
        *(path for folder in _fans(store) for path in sorted(folder.iterdir())),
    ):
        if not path.name.startswith("."):
            yield path


def _fans(store: Store) -> list[Path]:
    """The folders of blobs. Here and below, a link is not followed: what it leads to is not the store's."""
    return _folders((store.root / "objects").glob("??"))


def _runs(store: Store) -> list[Path]:
    return _folders((store.root / "trash").glob("*"))


def _folders(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_dir() and not path.is_symlink())


def _older(path: Path, when: float) -> bool:
    with suppress(FileNotFoundError):
        return path.lstat().st_mtime < when
    return False


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.lstat().st_size
    return 0


def _move_to_trash(store: Store, unneeded: list[Path]) -> Path | None:
    if not unneeded:
        return None
    run = store.root / "trash" / f"{int(time.time())}-{secrets.token_hex(4)}"
    with os_errors("write", run):
        run.mkdir(parents=True)
        for path in sorted(
            unneeded, key=lambda p: p.suffix != ".json"
        ):  # manifests first: no manifest without its blobs
            with suppress(FileNotFoundError):
                path.rename(run / path.name)
        os.utime(run)
    return run


def _put_back(store: Store, needed: set[str]) -> set[str]:
    """Put back everything in the trash that is needed and missing: blobs first, then manifests."""
    back: set[str] = set()
    trashed = [path for run in _runs(store) for path in run.iterdir() if path.stem in needed]
    for path in sorted(trashed, key=lambda p: p.suffix == ".json"):
        folder = (
            store.root / "manifests"
            if path.suffix == ".json"
            else store.root / "objects" / path.name[:2]
        )
        with os_errors("write", folder):
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError, FileNotFoundError):  # another process was first
                os.link(path, folder / path.name)
                back.add(path.stem)
            path.unlink(missing_ok=True)
        fsync_directory(folder)
    return back


def _clear_trees(store: Store, kept_trees: set[str], old: float) -> None:
    """Trees are copies of artifacts; those of artifacts that are gone are of no use."""
    for tree in (store.root / "trees").glob("*"):
        if tree.name.partition(".")[0] not in kept_trees and not (
            tree.name.startswith(".") and not _older(tree, old)
        ):
            shutil.rmtree(tree, ignore_errors=True)


def _clear_moments(store: Store) -> None:
    """What was measured of artifacts that are gone, and not in the trash either, can be measured again."""
    known = {path.stem for path in (store.root / "manifests").glob("*.json")}
    known |= {path.stem for run in _runs(store) for path in run.glob("*.json")}
    for folder in (store.root / "moments").glob("*"):
        if folder.name not in known:
            shutil.rmtree(folder, ignore_errors=True)


def _clear_work(folders: Sequence[Path], young: float) -> None:
    """What killed work left behind."""
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            if (folder.parent.name != "objects" or path.name.startswith(".")) and _older(
                path, young
            ):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _delete(runs: list[Path]) -> tuple[int, int]:
    count = size = 0
    for run in runs:
        for path in list(run.iterdir()) if run.is_dir() else []:
            with os_errors("delete", path):
                size += _size(path)
                path.unlink(missing_ok=True)
            count += 1
        with suppress(OSError):
            run.rmdir()
    return count, size
