"""Bytes hashed once: BLAKE3 of tensors and sha256 of files, through mmap, in parallel, remembered.

A file is known again by (device, inode, size, mtime_ns). What is remembered is kept in one small JSON
file per inode; a broken or stale one is ignored, and nothing fails because it cannot be written.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadBase, StoreError
from adaptkit.io.files import atomic_write
from adaptkit.io.machine.hardware import cores
from adaptkit.types import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from adaptkit.bases.checkpoint import TensorLocation
    from adaptkit.io.progress.progress import Progress

_SLICE = 64 << 20  # bytes between two reports of progress
_LARGE = 32 << 20  # bytes from which one tensor is worth several threads
_SETTLED_NS = 20_000_000  # file times move in steps of up to 10 ms: a file younger than this may still change unseen


@dataclass(slots=True)
class _Note:
    """What is remembered of one file."""

    file: Path
    stat: os.stat_result
    settled: bool
    sha256: str | None = None
    tensors: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> list[int]:
        return [self.stat.st_dev, self.stat.st_ino, self.stat.st_size, self.stat.st_mtime_ns]

    def place(self, cache: Path) -> Path:
        return cache / f"{self.stat.st_dev:x}-{self.stat.st_ino:x}.json"


def hash_all(
    files: Iterable[Path],
    tensors: Mapping[str, TensorLocation],
    cache: Path | None,
    progress: Progress,
) -> tuple[dict[Path, str], dict[str, str]]:
    """sha256 of whole files and BLAKE3 of tensors, hex; `progress` counts only bytes that are really read."""
    whole = list(files)
    notes = {
        file: _recall(file, cache) for file in {*whole, *(place.file for place in tensors.values())}
    }
    jobs: list[tuple[Path, str | None, int, int]] = [
        (file, None, 0, notes[file].stat.st_size) for file in whole if notes[file].sha256 is None
    ]
    jobs += [
        (place.file, name, place.entry.begin, place.entry.end)
        for name, place in tensors.items()
        if name not in notes[place.file].tensors
    ]
    jobs.sort(
        key=lambda job: job[2] - job[3]
    )  # the longest first, so that no core waits at the end
    _run(jobs, notes, progress)
    for file in {job[0] for job in jobs}:
        _remember(notes[file], cache)
    return (
        {file: notes[file].sha256 or "" for file in whole},
        {name: notes[place.file].tensors[name] for name, place in tensors.items()},
    )


def _run(
    jobs: list[tuple[Path, str | None, int, int]], notes: Mapping[Path, _Note], progress: Progress
) -> None:
    if not jobs:
        return
    lock = threading.Lock()

    def count_bytes(count: int) -> None:
        with lock:
            progress(count)

    with ExitStack() as stack:
        views = {
            file: stack.enter_context(_mapped(notes[file])) for file in {job[0] for job in jobs}
        }
        pool = stack.enter_context(ThreadPoolExecutor(min(len(jobs), cores())))
        stack.callback(pool.shutdown, cancel_futures=True)
        running = {
            pool.submit(_hash, file, views[file], name, begin, end, count_bytes): (file, name)
            for file, name, begin, end in jobs
        }
        for done in as_completed(running):
            file, name = running[done]
            if name is None:
                notes[file].sha256 = done.result()
            else:
                notes[file].tensors[name] = done.result()


def _hash(
    file: Path, view: memoryview, name: str | None, begin: int, end: int, count_bytes: Progress
) -> str:
    hashed: Any
    if name is None:
        hashed = hashlib.sha256()
    else:
        from blake3 import blake3

        hashed = blake3(max_threads=blake3.AUTO if end - begin >= _LARGE else 1)
    if end > len(view):  # the file was another one when its header was read
        raise _changed(file)
    for at in range(begin, end, _SLICE):
        stop = min(at + _SLICE, end)
        hashed.update(view[at:stop])
        count_bytes(stop - at)
    digest: str = hashed.hexdigest()
    return digest


def _mapped(note: _Note) -> memoryview:
    try:
        with note.file.open("rb") as file:
            if _known(os.fstat(file.fileno())) != note.key:
                raise _changed(note.file)
            if not note.stat.st_size:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise BadBase(f"cannot read {note.file}", why=error.strerror or str(error)) from error


def _known(stat: os.stat_result) -> list[int]:
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns]


def _changed(file: Path) -> BadBase:
    return BadBase(
        f"{file} changed while it was read",
        why="somebody is writing to it",
        fix="try again when it is done",
    )


def _recall(file: Path, cache: Path | None) -> _Note:
    try:
        note = _Note(file, file.stat(), settled=False)
    except OSError as error:
        raise BadBase(f"cannot read {file}", why=error.strerror or str(error)) from error
    note.settled = time.time_ns() - note.stat.st_mtime_ns > _SETTLED_NS
    if cache is not None:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            data = json.loads(note.place(cache).read_bytes())
            if data["key"] == note.key:
                note.sha256 = _hex_or_none(data["sha256"])
                note.tensors = {
                    name: digest for name, digest in data["tensors"].items() if _hex_or_none(digest)
                }
    return note


def _hex_or_none(text: object) -> str | None:
    return text if isinstance(text, str) and len(text) == 64 else None


def _remember(note: _Note, cache: Path | None) -> None:
    try:
        now = _known(note.file.stat())
    except OSError:
        now = []
    if now != note.key:
        raise _changed(note.file)
    if cache is None or not note.settled:
        return
    with suppress(OSError, StoreError):
        cache.mkdir(parents=True, exist_ok=True)
        data = {"key": note.key, "sha256": note.sha256, "tensors": note.tensors}
        atomic_write(note.place(cache), canonical_json(data).encode())
