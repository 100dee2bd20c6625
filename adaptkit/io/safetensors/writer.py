"""A streaming writer of safetensors files: one tensor at a time, in any order, visible when complete.

What is written has the library's own order (dtype, then name), so the bytes are those of `save_file` and every
tensor is aligned to its item size.
"""

from __future__ import annotations

import json
import os
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from adaptkit.errors import NotFound, StoreError
from adaptkit.io.closing import Closing
from adaptkit.io.files import copy_range, fsync_directory, open_temp, os_errors, write_all
from adaptkit.io.safetensors.reader import (
    DTYPES,
    LARGEST_HEADER,
    Entry,
    check_name,
    dtype_name,
    read_header,
    size_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from adaptkit.extend import Array

_TOGETHER = 1 << 20
"""The most bytes of tensors that are handed to the system at once: they are copied for it."""
_RANK = {name: index for index, name in enumerate(DTYPES)}


class TensorWriter(Closing):
    """Writes a safetensors file one tensor at a time, in any order and from several threads.

    The `plan` gives dtype and shape by name, so the header is known first and same inputs give the same
    bytes; `like` names a file of just that plan, whose header is copied byte for byte. Use it in a `with`:
    the file appears at `commit()`, and what was not committed leaves nothing.
    """

    def __init__(
        self,
        path: Path,
        plan: Mapping[str, tuple[str, tuple[int, ...]]],
        metadata: Mapping[str, str] | None = None,
        like: Path | None = None,
    ) -> None:
        self.path, self._plan = path, dict(plan)
        header, self._entries = (
            _copied_layout(like)
            if like
            else _layout(path, self._plan, {"format": "pt"} if metadata is None else metadata)
        )
        self._missing, self._claimed = set(plan), set[str]()
        self._lock = threading.Lock()
        with os_errors("write", path):
            self._descriptor, self._temp = open_temp(path.parent, path.name)
        try:
            with os_errors("write", path):
                os.ftruncate(
                    self._descriptor,
                    max((e.end for e in self._entries.values()), default=len(header)),
                )
                write_all(self._descriptor, header, 0)
        except BaseException:
            self.close()
            raise

    def write(self, key: str, array: Array) -> None:
        """Write one tensor; `StoreError` when it is not the one planned, or the disk is full."""
        self.write_some({key: array})

    def write_some(self, tensors: Mapping[str, Array]) -> None:
        """Write several tensors; what lies side by side in the file goes to the system at once."""
        for key, array in tensors.items():
            planned = self._planned(key)
            got = (dtype_name(array.dtype), array.shape)
            if planned != got:
                raise StoreError(
                    f"the tensor '{key}' does not fit its plan in {self.path}",
                    why=f"planned is {planned[0]} {list(planned[1])}, given is {got[0]} {list(got[1])}",
                )
        entries = self._claim(tensors)
        with os_errors("write", self.path):
            for begin, run in _runs(tensors, entries):
                data = [_bytes(array) for array in run]
                write_all(self._descriptor, data[0] if len(data) == 1 else b"".join(data), begin)
        with self._lock:
            self._missing.difference_update(tensors)

    @contextmanager
    def pieces(self, key: str) -> Iterator[Callable[[memoryview], None]]:
        """Write one tensor in pieces of bytes, handed over in order; it counts as written when all have come."""
        (entry,) = self._claim((key,))
        at = entry.begin

        def put(piece: memoryview) -> None:
            nonlocal at
            if at + piece.nbytes > entry.end:
                raise StoreError(
                    f"the tensor '{key}' does not fit its plan in {self.path}",
                    why="it has more bytes",
                )
            with os_errors("write", self.path):
                write_all(self._descriptor, piece, at)
            at += piece.nbytes

        yield put
        if at == entry.end:
            with self._lock:
                self._missing.remove(key)

    def copy(self, key: str, file: Path, begin: int) -> None:
        """Write one tensor with the bytes of another file from `begin`; the system copies where it can."""
        (entry,) = self._claim((key,))
        with os_errors("write", self.path), file.open("rb") as source:
            if (
                copy_range(source.fileno(), self._descriptor, entry.nbytes, begin, entry.begin)
                != entry.nbytes
            ):
                raise StoreError(
                    f"the tensor '{key}' cannot be copied from {file}", why="the file is too short"
                )
        with self._lock:
            self._missing.remove(key)

    def commit(self, *, sync: bool = True, sync_folder: bool = True) -> None:
        """Make the complete file appear, and with `sync` wait until it is on disk; `StoreError` names what was not written.

        Without `sync_folder` the bytes are on disk, and the caller syncs the folder, for several files at once.
        """
        if self._missing:
            names = ", ".join(sorted(self._missing)[:5])
            raise StoreError(
                f"cannot finish {self.path}",
                why=f"{len(self._missing)} tensors are not written: {names}",
            )
        with os_errors("write", self.path):
            if sync:
                os.fsync(self._descriptor)
            self._temp.replace(self.path)
        self.close()
        if sync and sync_folder:
            fsync_directory(self.path.parent)

    def _planned(self, key: str) -> tuple[str, tuple[int, ...]]:
        if key not in self._plan:
            raise NotFound(f"planned tensor of {self.path}", key, self._plan)
        dtype, shape = self._plan[key]
        return dtype, tuple(shape)

    def _claim(self, keys: Collection[str]) -> list[Entry]:
        """The entries of tensors that nobody else writes."""
        for key in keys:
            self._planned(key)
        with self._lock:
            for key in keys:
                if key in self._claimed:
                    raise StoreError(
                        f"the tensor '{key}' of {self.path} is written twice",
                        why="each has one writer",
                    )
            self._claimed.update(keys)
        return [self._entries[key] for key in keys]

    def close(self) -> None:
        """Remove what was not committed."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
            with suppress(OSError):
                self._temp.unlink()


def _bytes(array: Array) -> memoryview:
    import numpy as np

    if not array.size:
        return memoryview(b"")
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _runs(
    tensors: Mapping[str, Array], entries: Sequence[Entry]
) -> Iterator[tuple[int, list[Array]]]:
    """Where to write, and the small tensors that follow each other there; a large one is alone."""
    begin, at = -1, -1
    run: list[Array] = []
    for array, entry in sorted(
        zip(tensors.values(), entries, strict=True), key=lambda pair: pair[1].begin
    ):
        if run and (entry.begin != at or entry.end - begin > _TOGETHER):
            yield begin, run
            run = []
        if not run:
            begin = entry.begin
        run.append(array)
        at = entry.end
    if run:
        yield begin, run


def _copied_layout(like: Path) -> tuple[bytes, dict[str, Entry]]:
    """The header's bytes of another file, and every tensor's entry in it."""
    entries = dict(read_header(like, LARGEST_HEADER).tensors)
    with os_errors("read", like), like.open("rb") as file:
        (length,) = struct.unpack("<Q", start := file.read(8))
        return start + file.read(length), entries


def _layout(
    path: Path, plan: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, Entry]]:
    """The header's bytes and every tensor's entry."""
    table: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    try:
        for name, (dtype, shape) in sorted(
            plan.items(), key=lambda item: (-_RANK.get(item[1][0], -1), item[0])
        ):
            if dtype not in DTYPES or name == "__metadata__":
                raise ValueError(f"the tensor {name!r} has the unknown dtype {dtype!r}")  # noqa: TRY301
            end = at + size_of(dtype, tuple(shape))
            table[check_name(name)] = {"dtype": dtype, "shape": shape, "data_offsets": (at, end)}
            at = end
    except ValueError as error:
        raise StoreError(f"cannot write {path}", why=str(error)) from error
    raw = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    start = 8 + len(raw)
    entries = {}
    for name, (dtype, shape) in plan.items():
        begin, end = table[name]["data_offsets"]
        entries[name] = Entry(dtype, tuple(shape), start + begin, start + end)
    return struct.pack("<Q", len(raw)) + raw, entries
