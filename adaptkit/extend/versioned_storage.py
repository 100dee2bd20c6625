"""A ready subclass for places with a folder for each version: `v1/`, `v2/` and so on.

A version's folder is a plain PEFT directory with an `adaptkit.json`, which is its commit point: a folder
without one does not exist. What is read from a place is not trusted until it is checked.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from adaptkit.errors import Conflict, Corrupt, StorageError, StoreError
from adaptkit.extend import StorageBackend
from adaptkit.extend.artifact_files import LARGEST_MANIFEST, MANIFEST
from adaptkit.extend.storage import no_version
from adaptkit.io.progress.progress import no_progress
from adaptkit.io.safe_paths import check_paths
from adaptkit.types import PlacedVersion, Receipt
from adaptkit.types.limits import LARGEST_NUMBER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.extend import Bundle
    from adaptkit.io.progress.progress import Progress
    from adaptkit.types import FileEntry

__all__ = [
    "ALIASES",
    "LARGEST_MANIFEST",
    "LARGEST_NUMBER",
    "MANIFEST",
    "VersionedStorage",
    "check_entries",
    "manifest_bytes",
]

ALIASES = "refs.json"
_TRIES = 64  # as many other pushes may come first
_IN_VAIN = 8  # times that a number is taken which no list shows; a list may lag for a moment
_SHA256 = re.compile(r"[0-9a-f]{64}")


class VersionedStorage(StorageBackend):
    """Numbers, unchanged pushes, lost races and checked manifests. Subclasses keep the bytes."""

    readers: ClassVar[int] = 1
    """How many manifests are read at once; more than one where each is a request."""

    @abstractmethod
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the versions that are committed, in order."""

    @abstractmethod
    def taken(self) -> int:
        """The highest number that anything is stored under, committed or not; 0 when there is none."""

    @abstractmethod
    def manifest_of(self, number: int) -> bytes:
        """The `adaptkit.json` of a committed version.

        `StorageError` when missing, `Corrupt` when too large.
        """

    @abstractmethod
    def publish(
        self, placed: PlacedVersion, bundle: Bundle, held: Mapping[str, str], progress: Progress
    ) -> int | None:
        """Make the version appear whole; returns the bytes that were sent, or None when the number was lost.

        `held` maps each sha256 that is stored here already to its path.
        """

    def begun(self, bundle: Bundle) -> int | None:
        """The number under which somebody began to push exactly these files and has not finished, where that is known."""
        return None

    def caution(self) -> str:
        """What this place does not promise, for the receipt; empty when all is as it should be."""
        return ""

    def list(self) -> tuple[PlacedVersion, ...]:
        numbers = self.numbers()
        if self.readers == 1 or len(numbers) < 2:
            found = [self._read(number) for number in numbers]
        else:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(self.readers) as pool:
                found = list(pool.map(self._read, numbers))
        # the error for one that cannot be trusted is raised when this version is requested
        return tuple(placed for placed in found if isinstance(placed, PlacedVersion))

    def version(self, number: int | None = None) -> PlacedVersion:
        numbers = self.numbers()
        if not numbers or (number is not None and number not in numbers):
            raise no_version(self.url, number, numbers)
        if number is None:
            return self._latest(numbers)
        found = self._read(number)
        if isinstance(found, Corrupt):
            raise found
        return found

    def _latest(self, numbers: Sequence[int]) -> PlacedVersion:
        """The highest that was pushed as latest; one that cannot be trusted is an error, not passed over."""
        highest: PlacedVersion | None = None
        for number in sorted(numbers, reverse=True):
            found = self._read(number)
            if isinstance(found, Corrupt):
                raise found
            if found.latest:
                return found
            highest = highest or found
        assert highest is not None
        return highest

    def _read(self, number: int) -> PlacedVersion | Corrupt:
        try:
            placed = PlacedVersion.from_json(json.loads(self.manifest_of(number)))
            if placed.number != number:
                raise ValueError(f"it is of version {placed.number}")  # noqa: TRY301
            check_entries(placed.manifest.files + placed.manifest.extras)
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
            StoreError,
        ) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            broken = Corrupt(
                f"{MANIFEST} of {self.url}@{number} cannot be trusted",
                why=why,
                fix="ask who pushed it to push it again as a new version",
            )
            broken.__cause__ = error
            return broken
        return placed

    def push(
        self, bundle: Bundle, expected: tuple[PlacedVersion, ...], progress: Progress = no_progress
    ) -> Receipt:
        versions, number, vain = expected, 0, 0
        for _ in range(_TRIES):
            taken = self.taken()
            vain = vain + 1 if taken < number else 0
            if vain == _IN_VAIN:
                raise StorageError(
                    f"cannot push to {self.url}",
                    why=f"it reports that v{number} is taken, and lists no such version",
                    fix="ask who runs it, or push to another place",
                )
            begun = self.begun(bundle)
            if taken > max(
                (p.number for p in versions), default=0
            ):  # another push came between: it may be the same
                versions = self.list()
            same = next((p for p in versions if p.manifest.digest == bundle.manifest.digest), None)
            if same is not None:
                return self._checked(same, bundle, progress)
            number = begun or max(bundle.placed.number, taken + 1)
            if number > LARGEST_NUMBER:
                raise StorageError(
                    f"cannot push to {self.url}",
                    why=f"something is stored there as v{taken}, and numbers end at {LARGEST_NUMBER:,}",
                    fix=f"delete v{taken} there, if it is not needed, or push to another place",
                )
            wanted = bundle.placed
            placed = replace(wanted, number=number, revision="")
            held = {
                f.sha256: f"v{p.number}/{f.path}"
                for p in versions
                for f in p.manifest.files + p.manifest.extras
            }
            sent = self.publish(placed, bundle, held, progress)
            if sent is not None:
                return Receipt(self.url, number, bundle.manifest.digest, sent, note=self.caution())
            versions = self.list()
        raise Conflict(
            f"could not get a number in {self.url}",
            why=f"{_TRIES} other pushes came first",
            fix="try again when fewer people push",
        )

    def _checked(self, same: PlacedVersion, bundle: Bundle, progress: Progress) -> Receipt:
        """The receipt for a digest that is there; what is missing of it, or differs in size, is sent again."""
        broken = self.damage(same)
        if not broken:
            return Receipt(
                self.url,
                same.number,
                same.manifest.digest,
                0,
                unchanged=True,
                note=self.caution(),
            )
        here = {entry.path: entry for entry in bundle.files}
        paths = {
            entry.path: bundle.paths[entry.path]
            if here.get(entry.path) == entry
            else bundle.former[entry.sha256]
            for entry in same.manifest.files + same.manifest.extras
            if entry.path in broken
            and (here.get(entry.path) == entry or entry.sha256 in bundle.former)
        }
        files = [e for e in same.manifest.files + same.manifest.extras if e.path in paths]
        shown = ", ".join(f"{path} ({why})" for path, why in sorted(broken.items()))
        if len(files) < len(broken):
            raise StorageError(
                f"{self.url}@{same.number} is damaged: {shown}",
                why="the bytes it needs are not here",
                fix="push it again from where it was pushed first, or as a new version",
            )
        sent = self.repair(same, files, paths, progress)
        return Receipt(
            self.url,
            same.number,
            same.manifest.digest,
            sent,
            note=f"v{same.number} was damaged there, and was sent again: {shown}",
            repaired=tuple(sorted(paths)),
        )


def damaged(entries: Sequence[FileEntry], sizes: Mapping[str, int | None]) -> Mapping[str, str]:
    """Which files are missing or have another size, with the reason; `sizes` holds what is stored, by path."""
    found = {}
    for entry in entries:
        size = sizes.get(entry.path)
        if size is None:
            found[entry.path] = "it is missing"
        elif size != entry.size:
            found[entry.path] = f"it has {size:,} bytes, not {entry.size:,}"
    return found


def alias_table(url: str, data: bytes) -> Mapping[str, int]:
    """What a place's `refs.json` holds; `StorageError` when it cannot be read."""
    try:
        table = json.loads(data)
        why = "" if isinstance(table, dict) else "it holds no object"
    except (ValueError, RecursionError) as error:
        table, why = {}, str(error)
    odd = () if why else (alias for alias, number in table.items() if type(number) is not int)
    for alias in odd:
        why = f"the alias '{alias[:60]}' points at no whole number"
    if why:
        raise StorageError(
            f"{ALIASES} of {url} cannot be read",
            why=why,
            fix="fix or delete it, then push the alias again",
        )
    return dict(table)


def alias_table_bytes(table: Mapping[str, int]) -> bytes:
    """The bytes of a `refs.json`: for people to read, and the same for the same table."""
    return (json.dumps(dict(table), indent=2, sort_keys=True) + "\n").encode()


def check_entries(entries: Sequence[FileEntry]) -> None:
    """Refuse a file list that could write elsewhere or over something.

    `StoreError` or `ValueError` says why.
    """
    check_paths([entry.path for entry in entries])
    for entry in entries:
        if entry.path.casefold() in {MANIFEST, ALIASES}:
            raise ValueError(
                f"its file list names {entry.path}, which is not a file of an artifact"
            )
        if type(entry.size) is not int or entry.size < 0 or not _SHA256.fullmatch(entry.sha256):
            raise ValueError(f"{entry.path!a} has an invalid size or sha256")


def manifest_bytes(placed: PlacedVersion) -> bytes:
    """The bytes of an `adaptkit.json`: for people to read, and the same for the same version."""
    text = json.dumps(
        placed.to_json(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False
    )
    return f"{text}\n".encode()
