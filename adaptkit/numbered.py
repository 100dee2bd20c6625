"""A ready subclass for places that keep `v1/`, `v2/`, …: what they all do alike, whatever keeps the bytes.

A version's folder is a plain PEFT directory with an `adaptkit.json`, which is its commit point: a folder
without one does not exist. What is read from a place is hostile until checked.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import TYPE_CHECKING

from adaptkit.errors import Conflict, Corrupt, NotFound, StoreError
from adaptkit.extend import StorageBackend, no_progress
from adaptkit.files import check_relative
from adaptkit.types import PlacedVersion, Receipt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.extend import Bundle, Progress

MANIFEST = "adaptkit.json"
ALIASES = "refs.json"
LARGEST_MANIFEST = 4 << 20  # bytes
_TRIES = 64  # as many other pushes may come first


class NumberedPlace(StorageBackend):
    """Numbers, unchanged pushes, lost races and checked manifests. Subclasses keep the bytes."""

    @abstractmethod
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the versions that are committed, in order."""

    @abstractmethod
    def taken(self) -> int:
        """The highest number that anything stands under, committed or not; 0 when there is none."""

    @abstractmethod
    def read(self, path: str, largest: int) -> bytes:
        """A small file of the place; `StorageError` when it is missing, `Corrupt` when it is larger."""

    @abstractmethod
    def publish(self, placed: PlacedVersion, bundle: Bundle, held: Mapping[str, str], progress: Progress) -> int | None:
        """Make the version appear whole; answers the bytes that crossed, or None when the number was lost.

        `held` tells which sha256 lies here already, and under which path.
        """

    def list(self) -> tuple[PlacedVersion, ...]:
        found = []
        for number in self.numbers():
            try:
                found.append(self.version(number))
            except Corrupt:  # the sentence comes when this version is asked for
                continue
        return tuple(found)

    def version(self, number: int | None = None) -> PlacedVersion:
        numbers = self.numbers()
        if not numbers or (number is not None and number not in numbers):
            raise NotFound(f"version in {self.url}", str(number or "latest"), map(str, numbers))
        number = max(numbers) if number is None else number
        try:
            placed = PlacedVersion.from_json(json.loads(self.read(f"v{number}/{MANIFEST}", LARGEST_MANIFEST)))
            if placed.number != number:
                raise ValueError(f"it says it is version {placed.number}")  # noqa: TRY301
            for entry in placed.manifest.files + placed.manifest.extras:
                check_relative(entry.path)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, StoreError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise Corrupt(f"{MANIFEST} of {self.url}@{number} cannot be believed", why=why,
                          fix="ask who pushed it to push it again as a new version") from error  # fmt: skip
        return placed

    def push(self, bundle: Bundle, expected: tuple[PlacedVersion, ...], progress: Progress = no_progress) -> Receipt:
        there = expected
        for _ in range(_TRIES):
            taken = self.taken()
            if taken > max((p.number for p in there), default=0):  # somebody came between: it may be the same
                there = self.list()
            same = next((p for p in there if p.manifest.digest == bundle.manifest.digest), None)
            if same is not None:
                return Receipt(self.url, same.number, same.manifest.digest, 0, unchanged=True)
            number = max(bundle.placed.number, taken + 1)
            mine = bundle.placed
            placed = PlacedVersion(number, mine.manifest, mine.name, mine.message, mine.author)
            held = {f.sha256: f"v{p.number}/{f.path}" for p in there for f in p.manifest.files + p.manifest.extras}
            sent = self.publish(placed, bundle, held, progress)
            if sent is not None:
                return Receipt(self.url, number, bundle.manifest.digest, sent)
            there = self.list()
        raise Conflict(f"could not get a number in {self.url}", why=f"{_TRIES} other pushes came first",
                       fix="try again when fewer people push")  # fmt: skip


def manifest_bytes(placed: PlacedVersion) -> bytes:
    """The bytes of an `adaptkit.json`: for people to read, and the same for the same version."""
    text = json.dumps(placed.to_json(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()
