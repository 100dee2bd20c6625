"""A corrected README.md on its way: attached to a version, whose own files never change.

Each correction has a number of its own, one more than the highest there; the highest counts. An adaptkit that knows
nothing of this kind of attachment reads the version as it was pushed. No digest covers the text, as none covers the
first README.md, so it is checked for its form only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from adaptkit.errors import StoreError
from adaptkit.extend.artifact_files import README
from adaptkit.extend.attachments import CORRECTION, MOST
from adaptkit.types import FileEntry, canonical_json
from adaptkit.types.limits import LARGEST_NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adaptkit.extend import StorageBackend
    from adaptkit.store.content_store import Store
    from adaptkit.types import Manifest, PlacedVersion

ABOUT = "about.json"
LARGEST = 1 << 20  # bytes of the text
_LARGEST_ABOUT = 1 << 10


class BadCorrection(ValueError):
    """Files that are no correction; the text says why."""


@dataclass(frozen=True, slots=True)
class Correction:
    """The README.md of an artifact, and how many came before it."""

    adapter: str
    number: int
    text: bytes

    @property
    def entry(self) -> FileEntry:
        return FileEntry(README, len(self.text), sha256(self.text).hexdigest())

    @property
    def files(self) -> Mapping[str, bytes]:
        """The files to attach; the last makes it appear."""
        about = {"adapter": self.adapter, "correction": self.number}
        return {README: self.text, ABOUT: canonical_json(about).encode()}

    @classmethod
    def read(cls, files: Mapping[str, bytes], digest: str) -> Correction:
        """What was attached to a version of this digest; `BadCorrection` says why it is no correction."""
        if files.keys() != {README, ABOUT}:
            raise BadCorrection(f"it does not have the files {README} and {ABOUT}")
        text, about = files[README], files[ABOUT]
        if len(text) > LARGEST or len(about) > _LARGEST_ABOUT:
            raise BadCorrection(f"it is too large: a {README} has at most {LARGEST:,} bytes")
        try:
            text.decode()
            table = json.loads(about)
            found = cls(table["adapter"], table["correction"], text)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadCorrection(f"{README} is no text, or {ABOUT} lacks what it must say") from None
        if found.adapter != digest:
            raise BadCorrection("it is of another adapter")
        if type(found.number) is not int or not 1 <= found.number <= LARGEST_NUMBER:
            raise BadCorrection(f"its number is not one from 1 to {LARGEST_NUMBER:,}")
        if b"\0" in text or dict(found.files) != dict(files):
            raise BadCorrection("it is not in canonical form")
        return found


def corrections(
    place: StorageBackend,
    number: int,
    digest: str,
    complain: Callable[[str], None] = lambda _: None,
) -> tuple[Correction, ...]:
    """The corrections of a version in a place, the one that counts last; what is none is complained of."""
    found = []
    for files in place.attached(number, CORRECTION):
        try:
            found.append(Correction.read(files, digest))
        except BadCorrection as error:
            complain(f"a corrected {README} of {place.url}@{number} was left out: {error}")
    return tuple(sorted(found, key=lambda one: (one.number, one.entry.sha256)))


def next_correction(there: tuple[Correction, ...], digest: str, text: bytes) -> Correction | None:
    """The one to attach for a text to count; None where a place has as many as are read."""
    number = there[-1].number + 1 if there else 1
    if len(there) >= MOST or number > LARGEST_NUMBER:
        return None
    return Correction(digest, number, text)


def readme_of(manifest: Manifest) -> FileEntry | None:
    """The README.md among the files beside the digest; None where there is none."""
    return next((extra for extra in manifest.extras if extra.path == README), None)


def with_readme(manifest: Manifest, entry: FileEntry) -> Manifest:
    """The manifest with this README.md; the digest is the same."""
    others = [extra for extra in manifest.extras if extra.path != README]
    extras = tuple(sorted([*others, entry], key=lambda extra: extra.path))
    return replace(manifest, extras=extras)


def bring_back(
    place: StorageBackend, placed: PlacedVersion, store: Store, notify: Callable[[str], None]
) -> None:
    """Replace a corrected README.md that is missing here by the place's copy of it, else by the text pushed first."""
    digest = placed.manifest.digest
    if not store.holds(digest):
        return
    try:
        kept = store.manifest(digest)
    except StoreError:  # it is damaged, and the place's takes its place
        return
    mine = readme_of(kept)
    if mine is None or mine == readme_of(placed.manifest) or store.has(mine.sha256):
        return
    for one in corrections(place, placed.number, digest):
        if one.entry == mine:
            store.correct(kept, {README: one.text})
            return
    others = tuple(extra for extra in kept.extras if extra.path != README)
    first = readme_of(placed.manifest)
    store.correct(
        with_readme(kept, first)
        if first and store.has(first.sha256)
        else replace(kept, extras=others)
    )
    notify(f"the corrected {README} of {digest[:19]}… is lost: {place.url} does not have it")
