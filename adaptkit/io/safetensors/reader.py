"""Read safetensors files strictly: the header alone, or one tensor at a time.

Notable choices:
- the header is ours, because the library accepts duplicate keys, `../` names, control characters and headers of 95 MB;
  it is checked whole before any tensor is touched: every byte after it belongs to exactly one tensor
- reading is ours too, because it maps the file and copies nothing: with the same header check before it, the library's
  `safe_open` takes 1.3 times as long for weights in float64, 1.6 times for blocks of rows and 2.4 times for comparing
  bytes, and the same for tensors that are copied anyway (`benchmarks/safetensors_read.py`, safetensors 0.8)
- numpy and ml_dtypes are imported when a tensor is read, not for a header
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from adaptkit.errors import BadWeights, NotFound, StoreError
from adaptkit.io.closing import Closing
from adaptkit.io.files import open_plain
from adaptkit.io.safe_paths import CONTROL
from adaptkit.types import TensorInfo

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from adaptkit.extend import Array

ADAPTER_HEADER = 25 << 20
"""The largest header of an adapter, in bytes: 100,000 tensors need about 15 MB."""
LARGEST_HEADER = 100_000_000
"""The largest header at all, in bytes; the limit of the safetensors library."""

# name -> (bits, name in numpy or ml_dtypes), in the order of the library's enum, which its files are sorted by.
DTYPES: dict[str, tuple[int, str]] = {
    "BOOL": (8, "bool"),
    "F4": (4, ""),
    "F6_E2M3": (6, ""),
    "F6_E3M2": (6, ""),
    "U8": (8, "uint8"),
    "I8": (8, "int8"),
    "F8_E5M2": (8, "float8_e5m2"),
    "F8_E4M3": (8, "float8_e4m3fn"),
    "F8_E8M0": (8, "float8_e8m0fnu"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
    "I16": (16, "int16"),
    "U16": (16, "uint16"),
    "F16": (16, "float16"),
    "BF16": (16, "bfloat16"),
    "I32": (32, "int32"),
    "U32": (32, "uint32"),
    "F32": (32, "float32"),
    "C64": (64, "complex64"),
    "F64": (64, "float64"),
    "I64": (64, "int64"),
    "U64": (64, "uint64"),
}
STORED_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}
"""What `--dtype` takes, with the name in a safetensors header."""
_NAMES = {numpy_name: name for name, (_, numpy_name) in DTYPES.items() if numpy_name}
_MOST_DIMENSIONS = 64  # numpy's limit
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How a Git LFS pointer starts, a small file in place of the weights."""
_SMALL_HEADER = 64 << 10
"""Headers up to this many bytes are kept once checked: about 500 tensors."""
_COMPARED = 1 << 20  # bytes compared at once
_AGAIN = "copy or download the file again"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor is stored: dtype, shape, its first byte and the byte after its last, from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class Header:
    """The header: entries by name, sorted; the metadata; the file's size in bytes."""

    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]
    size: int

    @cached_property
    def infos(self) -> Mapping[str, TensorInfo]:
        """What is said of each tensor, by name; made once for all files of this header."""
        return MappingProxyType(
            {
                name: TensorInfo(entry.dtype, entry.shape, entry.nbytes)
                for name, entry in self.tensors.items()
            }
        )


def read_header(path: Path, largest: int = ADAPTER_HEADER) -> Header:
    """The header of a safetensors file, checked whole; `BadWeights` names what is wrong with the file."""
    try:
        file = open_plain(path)
    except OSError as error:
        raise BadWeights(f"cannot read {path}", why=error.strerror or str(error)) from error
    with file:
        return _read_header(file.fileno(), path, largest)


def _read_header(descriptor: int, path: Path, largest: int) -> Header:
    try:
        size = os.fstat(descriptor).st_size
        start = os.pread(descriptor, max(8, len(LFS_POINTER)), 0)
        if start.startswith(LFS_POINTER):
            raise BadWeights(
                f"{path} is a Git LFS pointer",
                why="the weights themselves were not downloaded",
                fix=f"run git lfs pull in {path.parent}",
            )
        if len(start) < 8:
            raise BadWeights(
                f"{path} is truncated",
                why=f"it has {size} bytes, a safetensors file at least 10",
                fix=_AGAIN,
            )
        (length,) = struct.unpack("<Q", start[:8])
        if length > size - 8:
            raise BadWeights(
                f"{path} is truncated, or no safetensors file",
                why=f"its header would have {length:,} bytes, the file has {size:,}",
                fix=_AGAIN,
            )
        if length > (cap := min(largest, LARGEST_HEADER)):
            raise BadWeights(
                f"the header of {path} has {length:,} bytes",
                why=f"more than {cap:,} is not read here",
                fix="save the weights again with fewer tensors or less metadata",
            )
        raw = bytearray()
        while len(raw) < length and (
            piece := os.pread(descriptor, length - len(raw), 8 + len(raw))
        ):
            raw += piece
    except OSError as error:
        raise BadWeights(f"cannot read {path}", why=error.strerror or str(error)) from error
    return parse_header(bytes(raw), size, str(path))


def parse_header(raw: bytes, size: int, label: str) -> Header:
    """Read the JSON of a header (the bytes after its 8 bytes of length) for a file of `size` bytes."""
    try:
        return (_header if len(raw) <= _SMALL_HEADER else _header.__wrapped__)(raw, size)
    except _TruncatedError as error:
        raise BadWeights(f"{label} is truncated", why=str(error), fix=_AGAIN) from error
    except (ValueError, RecursionError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise BadWeights(f"{label} has a broken safetensors header", why=why, fix=_AGAIN) from error


@lru_cache(16)  # adapters that were trained alike have the same header, byte by byte
def _header(raw: bytes, size: int) -> Header:
    table = _object(raw)
    metadata = _metadata(table.pop("__metadata__", {}))
    start = 8 + len(raw)
    entries = {check_name(name): _entry(name, table[name], start) for name in sorted(table)}
    _check_layout(entries, start, size)
    return Header(MappingProxyType(entries), MappingProxyType(metadata), size)


class _TruncatedError(ValueError):
    """The header is valid, the bytes after it are too few."""


def _object(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):  # the format requires it; blanks may only follow
        raise ValueError("it does not start with '{'")
    table: dict[str, Any] = json.loads(
        raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
    )
    return table


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} occurs twice")
    return table


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a value JSON knows")


def _metadata(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError("__metadata__ is not a table of strings")
    return value


@lru_cache(1 << 14)  # a thousand adapters of one base have the same names
def check_name(name: str) -> str:
    if not name or CONTROL.search(name):
        raise ValueError(f"the tensor name {name!r} is empty or contains a control character")
    if (
        name.startswith(("/", "\\"))
        or re.match(r"[A-Za-z]:[\\/]", name)
        or ".." in re.split(r"[\\/]", name)
    ):
        raise ValueError(f"the tensor name {name!r} looks like a path that leads out of its folder")
    return name


def _entry(name: str, value: object, start: int) -> Entry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the tensor {name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"the tensor {name!r} has the unknown dtype {dtype!r}")
    if (
        not _whole(shape)
        or len(shape) > _MOST_DIMENSIONS
        or math.prod(n for n in shape if n) >= 1 << 60
    ):
        raise ValueError(f"the tensor {name!r} has an impossible shape")
    if not _whole(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"the tensor {name!r} has impossible data_offsets")
    if (needed := size_of(dtype, tuple(shape))) != offsets[1] - offsets[0]:
        raise ValueError(
            f"the tensor {name!r} is {dtype} {shape}, which needs {needed:,} bytes, "
            f"but {offsets[1] - offsets[0]:,} are set aside"
        )
    return Entry(dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _whole(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _check_layout(entries: Mapping[str, Entry], start: int, size: int) -> None:
    at, before = start, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin < at:
            raise ValueError(f"the tensors {before!r} and {name!r} overlap")
        if entry.begin > at:
            raise ValueError(
                f"{entry.begin - at:,} bytes before the tensor {name!r} belong to no tensor"
            )
        at, before = entry.end, name
    if at > size:
        raise _TruncatedError(f"its header describes {at:,} bytes, the file has {size:,}")
    if at < size:
        raise ValueError(f"{size - at:,} bytes after the last tensor belong to no tensor")


@lru_cache(1 << 12)  # most tensors of a file share a few shapes
def size_of(dtype: str, shape: tuple[int, ...]) -> int:
    """The bytes that a tensor takes; ValueError when a sub-byte dtype does not fill its last byte."""
    bits = math.prod(shape) * DTYPES[dtype][0]
    if bits % 8:
        raise ValueError(f"a tensor of {dtype} {list(shape)} does not end at a whole byte")
    return bits // 8


@cache
def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy dtype of a safetensors one (`BF16` → ml_dtypes.bfloat16); `BadWeights` when there is none."""
    import numpy as np

    name = DTYPES[dtype][1] if dtype in DTYPES else ""
    if not name:
        raise BadWeights(f"cannot compute with the dtype {dtype}", why="numpy has no such numbers")
    if not hasattr(np, name):
        import ml_dtypes

        name = getattr(ml_dtypes, name)
    found: np.dtype[Any] = np.dtype(name)
    return found


@cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """The safetensors name of a numpy dtype, those of ml_dtypes included; `StoreError` when there is none."""
    if dtype.name not in _NAMES:
        raise StoreError(
            f"cannot store numbers of dtype {dtype.name}",
            why="safetensors does not know it",
            fix=f"convert to one of {', '.join(sorted(_NAMES))}",
        )
    return _NAMES[dtype.name]


def same_bytes(one: memoryview, other: memoryview) -> bool:
    """Whether two pieces of memory are equal, a megabyte at a time: Python's `==` of views takes twelve times as long."""
    import numpy as np

    if one.nbytes != other.nbytes:
        return False
    left, right = np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)
    return all(
        np.array_equal(left[at : at + _COMPARED], right[at : at + _COMPARED])
        for at in range(0, one.nbytes, _COMPARED)
    )


class TensorFile(Closing):
    """A safetensors file, mapped: reads one tensor at a time. Close it, or use it in a `with`."""

    def __init__(self, path: Path, largest_header: int = ADAPTER_HEADER) -> None:
        self.path = path
        try:
            with open_plain(path) as file:
                self.header = _read_header(file.fileno(), path, largest_header)
                self._map = mmap.mmap(file.fileno(), self.header.size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise BadWeights(f"cannot read {path}", why=error.strerror or str(error)) from error

    def info(self, key: str) -> TensorInfo:
        """Dtype, shape and size of one tensor, from the header."""
        self._entry(key)
        return self.header.infos[key]

    def raw(self, key: str) -> memoryview:
        """The bytes of one tensor, not copied; they stay readable as long as this view lives."""
        entry = self._entry(key)
        return memoryview(self._map)[entry.begin : entry.end]

    def read(self, key: str) -> Array:
        """A copy of one tensor; bf16 and fp8 come as ml_dtypes."""
        return self.view(key).copy()

    def view(self, key: str) -> Array:
        """One tensor as stored in the file, read only and not copied; it stays readable as long as this array lives."""
        import numpy as np

        entry = self._entry(key)
        dtype = numpy_dtype(entry.dtype)
        if not entry.nbytes:
            return np.zeros(entry.shape, dtype)
        return np.ndarray(entry.shape, dtype, self._map, entry.begin)

    def drop_pages(self, key: str) -> None:
        """Let the system drop the pages of one tensor: it has been read."""
        entry = self._entry(key)
        begin = -(-entry.begin // mmap.PAGESIZE) * mmap.PAGESIZE
        if entry.end > begin and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED, begin, entry.end - begin)

    def close(self) -> None:
        with suppress(
            BufferError
        ):  # a view still lives: the mapping is closed with the last of them
            self._map.close()

    def _entry(self, key: str) -> Entry:
        if key not in self.header.tensors:
            raise NotFound(f"tensor in {self.path}", key, self.header.tensors)
        return self.header.tensors[key]
