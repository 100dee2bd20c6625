"""Fetch an artifact from a placement when its bytes are missing or damaged here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError, StoreError
from adaptkit.remotes import transfer
from adaptkit.remotes.corrected import bring_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from adaptkit.remotes.places import Places
    from adaptkit.store.content_store import Store
    from adaptkit.types import Placement, Version


def refetch(
    digest: str,
    placements: Iterable[Placement],
    places: Places,
    store: Store,
    versions: Sequence[Version] = (),
    notify: Callable[[str], None] = lambda _: None,
) -> Placement:
    """Fetch an artifact from any of its placements, the latest first.

    `StoreError` lists why each of them failed.
    """
    label = versions[-1].ref if versions else digest
    failures = []
    for placement in sorted(placements, key=lambda p: p.when, reverse=True):
        try:
            place = places.open(placement.place)
            placed = place.version(placement.number)
            if placed.manifest.digest != digest:
                failures.append(
                    f"{placement.place}@{placement.number} holds {placed.manifest.digest[:19]}… now"
                )
                continue
            bring_back(place, placed, store, notify)
            transfer.fetch(place, placed, store)
        except AdaptkitError as error:
            failures.append(
                f"{placement.place}@{placement.number}: {error.what}"
                + (f" ({error.why})" if error.why else "")
            )
        else:
            notify(f"{label}: fetched from {placement.place}@{placement.number}")
            return placement
    if failures:
        raise StoreError(
            f"{label} is not here, and none of its placements could give it back",
            why="; ".join(failures),
            fix="adaptkit fsck shows what is left; add or push it again where it still is",
        )
    author = versions[-1].author if versions and versions[-1].author else "its author"
    raise StoreError(
        f"{label} is not in this workspace's store",
        why="and it was never pushed anywhere",
        fix=f"ask {author}: adaptkit push {label} REMOTE",
    )
