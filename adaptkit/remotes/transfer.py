"""Push and pull through a storage backend, hashing everything that arrives."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from adaptkit.errors import Conflict, Corrupt, NotFound, StoreError
from adaptkit.io.files import os_errors, sha256_file
from adaptkit.io.http import client as http
from adaptkit.io.progress.progress import no_progress
from adaptkit.remotes.foreign import alias_in, check_placed, versions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from adaptkit.extend import Bundle, StorageBackend
    from adaptkit.io.progress.progress import Progress
    from adaptkit.refs import Selector
    from adaptkit.store.content_store import Store
    from adaptkit.types import FileEntry, Manifest, PlacedVersion, Receipt

_TRIES = 3
_PUSHES = 16  # as many others may be first, where a place leaves it to us to try again


def push(
    place: StorageBackend,
    bundle: Bundle,
    progress: Progress = no_progress,
    *,
    alias: str | None = None,
    dress: Callable[[Bundle, str], Bundle] | None = None,
) -> Receipt:
    """Publish, expecting what is there now; a conflict is looked at again a few times.

    Carries an alias if given.

    `dress` puts a model card into the bundle, given the current one, for places that show one.
    """
    for attempt in range(1, _PUSHES + 1):
        try:
            versions = place.list()
            new = all(
                placed.manifest.digest != bundle.manifest.digest or not placed.number
                for placed in versions
            )
            dressed = dress(bundle, place.card()) if dress and place.shows_card and new else bundle
            receipt = place.push(dressed, versions, progress)
            break
        except Conflict:
            if attempt == _PUSHES:
                raise
            # full jitter, so that those who lost together do not come back together
            http.pause(random.uniform(0.0, min(0.1 * 2**attempt, 3.0)))  # noqa: S311
    if alias is not None and receipt.number and place.aliases().get(alias) != receipt.number:
        place.set_alias(alias, receipt.number)
    return receipt


def placed_versions(place: StorageBackend) -> tuple[PlacedVersion, ...]:
    """Every version that a place holds and that can be trusted, by number."""
    return versions_of(place)


def choose(place: StorageBackend, selector: Selector | None) -> PlacedVersion:
    """The version that a selector means in a place: the highest, a number, an alias, a digest."""
    return check_placed(place, _chosen(place, selector))


def _chosen(place: StorageBackend, selector: Selector | None) -> PlacedVersion:
    if selector is None:
        return place.version()
    if selector.kind == "number":
        return place.version(selector.number)
    if selector.kind == "alias":
        return place.version(alias_in(place, selector.value))
    if selector.kind == "digest":
        found = [p for p in place.list() if p.manifest.digest.startswith(selector.value)]
        own = None if found else place.find(selector.value)
        found = [own] if own else found
        if len({p.manifest.digest for p in found}) != 1:
            raise NotFound(
                f"digest in {place.url}",
                selector.value,
                [p.manifest.digest[:23] for p in place.list()],
            )
        return found[-1]
    return place.at_revision(selector.value)


def fetch(
    place: StorageBackend, placed: PlacedVersion, store: Store, progress: Progress = no_progress
) -> Manifest:
    """Bring a version into the store.

    What is there already is not fetched, and every byte is verified.

    `Corrupt` names the file that is not what the manifest says; nothing of it is in the store then.
    """
    with store.working():
        for attempt in range(1, _TRIES + 1):
            manifest = _fetch(place, placed, store, progress)
            try:
                store.verify(manifest.digest)
            except (
                Corrupt
            ):  # a blob that was here already had rotted; it is in quarantine now, so fetch it
                if attempt == _TRIES:
                    raise
            else:
                break
        return manifest


def _fetch(
    place: StorageBackend, placed: PlacedVersion, store: Store, progress: Progress
) -> Manifest:
    wanted = placed.manifest
    entries = wanted.files + wanted.extras
    store.keep(wanted)
    missing = [entry for entry in entries if not store.has(entry.sha256)]
    progress(sum(entry.size for entry in entries) - sum(entry.size for entry in missing))
    with os_errors("write", store.root):
        (store.root / "tmp").mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(store.root).free
    if (needed := sum(entry.size for entry in missing)) > free:
        raise StoreError(
            f"{place.url}@{placed.number} does not fit on this disk",
            why=f"its manifest lists {needed:,} bytes, and {free:,} are free at {store.root}",
            fix="free some space; or do not trust who pushed it",
        )
    with os_errors("write", store.root):
        into = Path(mkdtemp(prefix="pull-", dir=store.root / "tmp"))
    try:
        place.pull(placed, missing, into, progress)
        _check(place, placed, missing, into, store)
        return store.add(wanted, {entry.path: into / entry.path for entry in missing})
    finally:
        shutil.rmtree(into, ignore_errors=True)


def download(
    place: StorageBackend, placed: PlacedVersion, store: Store, into: Path, progress: Progress
) -> None:
    """The files of a version as a folder, every byte verified.

    For what adaptkit did not make, and has to look at.
    """
    entries = placed.manifest.files + placed.manifest.extras
    place.pull(placed, entries, into, progress)
    _check(place, placed, entries, into, store)


def _check(
    place: StorageBackend,
    placed: PlacedVersion,
    entries: Sequence[FileEntry],
    into: Path,
    store: Store,
) -> None:
    for entry in entries:
        path = into / entry.path
        found = sha256_file(path) if path.is_file() else "no file"
        if found == entry.sha256:
            continue
        quarantine = store.root / "quarantine"
        quarantine.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            path.replace(quarantine / found)
        selector = placed.number or f"rev:{placed.revision[:12]}"
        raise Corrupt(
            f"'{entry.path}' of {place.url}@{selector} is corrupt",
            why=f"expected sha256 {entry.sha256[:12]}…, found {found[:12]}…",
            fix=f"what came is in {quarantine}; nothing was registered. Pull another version, or ask for a new push",
        )
