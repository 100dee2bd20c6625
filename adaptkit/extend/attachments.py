"""Attachments to a published version, such as signatures, as places made of folders store them.

A version never changes, so what is attached to `v3/` is stored beside it, in
`v3.attached/KIND/ID/`, where ID is made of the content: to attach the same twice is to attach it
once. What is read back is hostile until checked.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING

from adaptkit.errors import StorageError
from adaptkit.types import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SIGNATURE = "application/vnd.adaptkit.signature.v1+json"
MOMENTS = "application/vnd.adaptkit.moments.v1"
CORRECTION = "application/vnd.adaptkit.readme.v1"
TRAVEL = (SIGNATURE, MOMENTS, CORRECTION)
"""The kinds that adaptkit itself attaches: they go wherever their version is mirrored to."""
LARGEST = 4 << 20  # bytes of one file
MOST_BYTES = 256 << 20  # of one kind of a version; moments of a large model take most
MOST = 64  # of one kind that are read; a place could hold any number, to exhaust its readers
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOMENT = re.compile(r"moments-[0-9]{2}\.safetensors")
ID = re.compile(r"[0-9a-f]{32}")


def folder(number: int, kind: str) -> str:
    """Where a version's attachments are stored, relative to its place; `kind` is a media type."""
    return f"v{number}.attached/{re.sub('[^a-z0-9.]+', '-', kind.lower())}"


def identity(files: Mapping[str, bytes]) -> str:
    """The name of one attachment: of its files and their bytes."""
    return digest_of({name: sha256(data).hexdigest() for name, data in files.items()}).removeprefix(
        "sha256:"
    )[:32]


def misformed_moments(files: Mapping[str, bytes]) -> str:
    """Why files are not moments, as a clause; empty when they have the form of them.

    They are `about.json` and safetensors whose header accounts for every byte, so that nothing else
    travels under their name.
    """
    about = files.get("about.json")
    if about is None or len(about) > 64_000:
        return "about.json is missing or too large"
    try:
        json.loads(about)
    except (ValueError, RecursionError):
        return "about.json is not JSON"
    for name, data in files.items():
        if name != "about.json" and not (_MOMENT.fullmatch(name) and _is_safetensors(data)):
            return f"{name[:64]!a} is not a safetensors file of moments"
    return ""


def _is_safetensors(data: bytes) -> bool:
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size]) if 0 < size <= len(data) - 8 else None
        assert header is not None
        offsets = sorted(
            tuple(map(int, entry["data_offsets"]))
            for name, entry in header.items()
            if name != "__metadata__"
        )
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return False
    end = 0
    for first, last in offsets:
        if first != end or last < first:
            return False
        end = last
    return end == len(data) - 8 - size


def check(url: str, files: Mapping[str, bytes]) -> None:
    """Refuse to attach what could not be read back; `StorageError` says why."""
    for name, data in files.items():
        if not allowed(name) or len(data) > LARGEST:
            raise StorageError(
                f"cannot attach {name[:64]!a} to a version in {url}",
                why=f"an attached file has a plain name and at most {LARGEST:,} bytes",
            )
    if not files:
        raise StorageError(
            f"cannot attach nothing to a version in {url}",
            why="an attachment has at least one file",
        )


def allowed(name: str) -> bool:
    """Whether a file of an attachment may have this name."""
    return _NAME.fullmatch(name) is not None and not name.endswith(".")


class Reading:
    """The files of all attachments of one kind to a version, of which only so much is read."""

    def __init__(self, label: str) -> None:
        self._label, self._left = label, MOST_BYTES

    def counted(self, data: bytes) -> bytes:
        """The bytes of one file, which were read; `StorageError` when all take more than `MOST_BYTES`."""
        self._left -= len(data)
        if self._left < 0:
            raise StorageError(
                f"what is attached to {self._label} cannot be read",
                why=f"it takes more than {MOST_BYTES:,} bytes",
                fix="do not trust who can write there",
            )
        return data


def read(
    paths: Iterable[str], number: int, kind: str, read_file: Callable[[str], bytes]
) -> tuple[Mapping[str, bytes], ...]:
    """The files of every attachment of a kind to a version, found among `paths` of its place; names and numbers are bounded."""
    attached: dict[str, dict[str, str]] = {}
    root = f"{folder(number, kind)}/"
    for path in sorted(path for path in paths if path.startswith(root)):
        name, _, file = path.removeprefix(root).partition("/")
        if ID.fullmatch(name) and allowed(file) and (name in attached or len(attached) < MOST):
            attached.setdefault(name, {})[file] = path
    reading = Reading(f"v{number}")
    try:
        return tuple(
            {file: reading.counted(read_file(path)) for file, path in list(files.items())[:MOST]}
            for files in attached.values()
        )
    except FileNotFoundError as error:
        raise StorageError(
            f"cannot read what is attached to v{number}",
            why="a file of it is listed and is not there",
            fix="try again: somebody may be removing it; else ask for a new push",
        ) from error


def absent(url: str, number: int) -> StorageError:
    """The error for attaching to a version that a place does not hold."""
    return StorageError(
        f"cannot attach to v{number} in {url}", why="that version is missing", fix="push it first"
    )
