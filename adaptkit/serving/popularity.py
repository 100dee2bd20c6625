"""What a server was asked for, and which adapters it keeps: in a small file that survives restarts.

Notable choices:
- counts by digest and base, so that a name that means another version does not inherit them
- the file is a hint: one that is damaged or of another format is said and left out, and the server starts
- written whole and durably, under a lock that servers of one home share; what was counted since is added, so
  two servers do not lose each other's counts
- counts are halved when the largest passes a limit: what is asked for now comes to weigh more than what once was
"""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING, Annotated

import msgspec

from adaptkit.errors import StoreError
from adaptkit.io.file_lock import exclusive_lock
from adaptkit.io.files import atomic_write, os_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

LARGEST = 4 << 20  # bytes of the file
MOST = 10_000  # adapters of a base that are remembered
HALVE = 1 << 20  # requests for one adapter

Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class OfBase(msgspec.Struct, forbid_unknown_fields=True):
    """What one base's servers were asked for, and the references that they keep in slots."""

    asked: dict[Digest, Count] = msgspec.field(default_factory=dict)
    pinned: list[Name] = msgspec.field(default_factory=list)


class Content(msgspec.Struct, forbid_unknown_fields=True):
    """The file."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    bases: dict[str, OfBase] = msgspec.field(default_factory=dict)


class Popularity:
    """Requests by digest on one base, and what is pinned there. Thread-safe."""

    def __init__(self, path: Path, base: str, notify: Callable[[str], None]) -> None:
        self._path, self._base, self._notify = path, base, notify
        self._lock, self._failed = Lock(), False
        self._new: Counter[str] = Counter()
        self._pins: list[str] | None = None
        known = self._read().bases.get(base, OfBase())
        self._known, self.pinned = Counter(known.asked), tuple(known.pinned)

    def add(self, digests: Iterable[str]) -> None:
        """Count one request; of a mixture its adapters count alike, whatever their weights."""
        with self._lock:
            self._new.update(tuple(digests))

    def pin(self, references: Sequence[str]) -> None:
        """Keep these from now on, and no others."""
        with self._lock:
            self._pins, self.pinned = list(references), tuple(references)

    def top(self, most: int) -> tuple[str, ...]:
        """The digests that were asked for most often, the most popular first."""
        with self._lock:
            both = self._known + self._new
        return tuple(sorted(both, key=lambda digest: (-both[digest], digest))[:most])

    def save(self) -> None:
        """Write what is new; a home that cannot be written is said once."""
        with self._lock:
            new, pins = self._new, self._pins
            if not new and pins is None:
                return
            self._new, self._pins = Counter(), None
            self._known += new
        try:
            with exclusive_lock(self._path.with_suffix(".lock")):
                content = self._read()
                mine = content.bases.setdefault(self._base, OfBase())
                mine.asked = _bounded(Counter(mine.asked) + new)
                mine.pinned = mine.pinned if pins is None else pins
                atomic_write(self._path, msgspec.json.format(msgspec.json.encode(content)))
        except StoreError as error:
            if not self._failed:
                self._notify(f"what is popular is not kept: {error.summary}")
            self._failed = True

    def _read(self) -> Content:
        try:
            with os_errors("read", self._path), self._path.open("rb") as file:
                raw = file.read(LARGEST + 1)
            if len(raw) <= LARGEST:
                return msgspec.json.decode(raw, type=Content)
            why = f"it has more than {LARGEST:,} bytes"
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return Content()
            why = error.summary
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            why = str(error)
        self._notify(f"{self._path} is left out: {why}; popularity and pins start anew")
        return Content()


def _bounded(asked: Counter[str]) -> dict[str, int]:
    """The most popular ones, halved while the largest is above the limit."""
    kept = dict(sorted(asked.items(), key=lambda item: (-item[1], item[0]))[:MOST])
    while kept and max(kept.values()) > HALVE:
        kept = {digest: count // 2 for digest, count in kept.items() if count > 1}
    return kept
