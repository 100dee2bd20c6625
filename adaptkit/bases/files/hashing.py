"""Bytes hashed once: BLAKE3 of tensors and sha256 of files, through mmap, in one pass, in parallel, remembered.

A file is known again by (device, inode, size, mtime_ns). What is remembered is kept in one small JSON
file per inode; a broken or stale one is ignored, and nothing fails because it cannot be written.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadBase, StoreError
from adaptkit.io.files import atomic_write
from adaptkit.io.machine.hardware import cores
from adaptkit.io.progress.progress import thread_safe
from adaptkit.types import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from adaptkit.bases.files.checkpoint import TensorLocation
    from adaptkit.io.progress.progress import Progress

_SLICE = 64 << 20  # bytes between two reports of progress
_BLOCK = 4 << 20  # bytes that both hashes take in turn; they stay in a processor's cache meanwhile
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
    """sha256 of whole files and BLAKE3 of tensors, hex; `progress` counts only bytes that are really read.

    A file of which both are wanted is read once.
    """
    whole = list(files)
    notes = {
        file: _recall(file, cache) for file in {*whole, *(place.file for place in tensors.values())}
    }
    jobs = _jobs(whole, tensors, notes)
    _run(jobs, notes, thread_safe(progress))
    for file in {job.file for job in jobs}:
        _remember(notes[file], cache)
    return (
        {file: notes[file].sha256 or "" for file in whole},
        {name: notes[place.file].tensors[name] for name, place in tensors.items()},
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """A stretch of one file to read: the tensors in it to hash, in order, and whether the file as a whole."""

    file: Path
    begin: int
    end: int
    tensors: tuple[tuple[str, int, int], ...]
    """Names with where they begin and end."""
    whole: bool


def _jobs(
    whole: Iterable[Path], tensors: Mapping[str, TensorLocation], notes: Mapping[Path, _Note]
) -> list[_Job]:
    """What is not remembered: a job for each file that is hashed whole, else one for each tensor."""
    wanted: dict[Path, list[tuple[str, int, int]]] = {}
    for name, place in tensors.items():
        if name not in notes[place.file].tensors:
            stretch = (name, place.entry.begin, place.entry.end)
            wanted.setdefault(place.file, []).append(stretch)
    jobs = []
    for file in dict.fromkeys(whole):
        if notes[file].sha256 is None:
            inside = sorted(wanted.pop(file, []), key=lambda one: one[1:])
            jobs.append(_Job(file, 0, notes[file].stat.st_size, tuple(inside), whole=True))
    jobs += [
        _Job(file, one[1], one[2], (one,), whole=False)
        for file, inside in wanted.items()
        for one in inside
    ]
    jobs.sort(key=lambda job: job.begin - job.end)  # the longest first: no core waits at the end
    return jobs


def _run(jobs: Sequence[_Job], notes: Mapping[Path, _Note], progress: Progress) -> None:
    if not jobs:
        return
    with ExitStack() as stack:
        views = {
            file: stack.enter_context(_mapped(notes[file])) for file in {job.file for job in jobs}
        }
        pool = stack.enter_context(ThreadPoolExecutor(min(len(jobs), cores())))
        stack.callback(pool.shutdown, cancel_futures=True)
        # with fewer files than cores, the two hashes of a page run side by side
        spare = cores() > len(jobs)
        running = {
            pool.submit(_hash, job, views[job.file], progress, beside=spare): job for job in jobs
        }
        for done in as_completed(running):
            note = notes[running[done].file]
            sha256, found = done.result()
            note.sha256 = sha256 or note.sha256
            note.tensors |= found


def _hash(
    job: _Job, view: memoryview, progress: Progress, *, beside: bool
) -> tuple[str | None, dict[str, str]]:
    if any(end > len(view) for _, _, end in job.tensors):
        raise _changed(job.file)  # it was another one when its header was read
    if job.whole:
        return _hash_both(job, view, progress, beside=beside and bool(job.tensors))
    from blake3 import blake3

    ((name, begin, end),) = job.tensors
    hashed = blake3(max_threads=blake3.AUTO if end - begin >= _LARGE else 1)
    for at in range(begin, end, _SLICE):
        stop = min(at + _SLICE, end)
        hashed.update(view[at:stop])
        progress(stop - at)
    return None, {name: hashed.hexdigest()}


def _hash_both(
    job: _Job, view: memoryview, progress: Progress, *, beside: bool
) -> tuple[str, dict[str, str]]:
    """Both hashes of each block while it is in the processor's cache; `beside` computes them in two threads."""
    hashed = hashlib.sha256()
    leaves = _Leaves(view, job.tensors)
    with ThreadPoolExecutor(1) as other:
        for at in range(0, job.end, _BLOCK):
            stop = min(at + _BLOCK, job.end)
            running = other.submit(leaves.advance, stop) if beside else None
            hashed.update(view[at:stop])
            if running is None:
                leaves.advance(stop)
            else:
                running.result()
            progress(stop - at)
    return hashed.hexdigest(), leaves.finished()


class _Leaves:
    """The BLAKE3 of a file's tensors, which do not overlap, as reading goes on from its start to its end."""

    def __init__(self, view: memoryview, tensors: Sequence[tuple[str, int, int]]) -> None:
        self._view, self._tensors = view, tensors
        self._next = self._at = 0
        self._hashed: Any = None
        self._found: dict[str, str] = {}

    def advance(self, stop: int) -> None:
        """Hash what is before `stop` and was not hashed yet."""
        from blake3 import blake3

        while self._next < len(self._tensors):
            name, begin, end = self._tensors[self._next]
            if self._hashed is None:
                if begin >= stop and begin < end:
                    return
                self._hashed, self._at = blake3(), begin
            upto = min(end, stop)
            if upto > self._at:
                self._hashed.update(self._view[self._at : upto])
                self._at = upto
            if self._at < end:
                return
            self._found[name] = self._hashed.hexdigest()
            self._hashed = None
            self._next += 1

    def finished(self) -> dict[str, str]:
        """The digests by name, when the whole file was read."""
        self.advance(len(self._view))
        return self._found


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
