"""A corrected README.md goes to places that hold its version, and comes from them; a text they lost goes back.

Which of two texts is the newer one is decided by what was seen: a text that this workspace had before, and replaced,
is older than its own; any other text of a place is newer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError
from adaptkit.extend.artifact_files import README
from adaptkit.extend.attachments import CORRECTION
from adaptkit.io.files import sha256_file
from adaptkit.remotes import transfer
from adaptkit.remotes.corrected import (
    LARGEST,
    corrections,
    next_correction,
    readme_of,
    with_readme,
)
from adaptkit.workspace.context.events import emit

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.extend import StorageBackend
    from adaptkit.types import Manifest, Version
    from adaptkit.workspace.context.context import Context


def former_readmes(context: Context, version: Version) -> list[str | None]:
    """The sha256 of each README.md that a version had here before it was corrected; None where it had none."""
    names = {one.name for one in context.registry.versions(digest=version.digest)}
    return [
        event.detail.get("was", {}).get(README)
        for event in context.registry.events(names=names)
        if event.verb == "corrected" and event.digest == version.digest
    ]


def lost_readmes(context: Context, version: Version, place: StorageBackend) -> dict[str, Path]:
    """The README.md that a place has lost of a version that was corrected since, by sha256: it is still here, intact."""
    former = {sha256 for sha256 in former_readmes(context, version) if sha256}
    if not former:
        return {}
    there = transfer.placed_versions(place)
    same = next((p for p in there if p.number and p.manifest.digest == version.digest), None)
    first = readme_of(same.manifest) if same else None
    if same is None or first is None or first.sha256 not in former:
        return {}
    if README not in place.damage(same) or not context.store.has(first.sha256):
        return {}
    path = context.store.blob(first.sha256)
    return {first.sha256: path} if sha256_file(path) == first.sha256 else {}


def send_corrected(
    context: Context, version: Version, manifest: Manifest, place: StorageBackend, number: int
) -> bool:
    """Attach the README.md of a version that a place holds with an older one; its failure is notified.

    Whether it was sent.
    """
    mine, former = readme_of(manifest), former_readmes(context, version)
    if mine is None or not former:
        return False
    label = f"{place.url}@{number}"
    try:
        first = readme_of(place.version(number).manifest)
        there = corrections(place, number, version.digest)
        newest = there[-1].entry if there else first
        if newest == mine:
            return False
        known = (newest.sha256 if newest else None) in {None, *former}
        # Where a place adds a card to README.md, the first one there is another text than any that was here.
        if not known and not (place.shows_card and not there):
            context.notify(
                f"{label} keeps its {README}, which was corrected by others or is another one: "
                f"adaptkit pull {label} takes a corrected one"
            )
            return False
        one = next_correction(there, version.digest, context.store.blob(mine.sha256).read_bytes())
        if one is None or mine.size > LARGEST:
            context.notify(
                f"{label} keeps its {README}: it was corrected too often, or the new one has more than "
                f"{LARGEST:,} bytes. The next version brings it"
            )
            return False
        place.attach(number, CORRECTION, one.files)
    except AdaptkitError as error:
        context.notify(f"{label} keeps the {README} it has: {error.summary}")
        return False
    return True


def receive_corrected(
    context: Context, place: StorageBackend, number: int, version: Version
) -> None:
    """Take the README.md by which a place corrected a version, unless this workspace had it before."""
    if not number:
        return
    store = context.store
    try:
        there = corrections(place, number, version.digest, context.notify)
    except AdaptkitError as error:
        context.notify(
            f"the corrected {README} of {place.url}@{number} cannot be read: {error.what}"
        )
        return
    if not there:
        return
    newest = there[-1]
    with store.working():
        kept = store.manifest(version.digest)
        if readme_of(kept) != newest.entry:
            if newest.entry.sha256 in former_readmes(context, version):
                return
            corrected = with_readme(kept, newest.entry)
            store.correct(corrected, {README: newest.text})
            context.notify(
                f"{README}: the corrected one of {place.url}@{number} was taken for {version.ref}; "
                "its weights stay as they are"
            )
        extras = store.manifest(version.digest).extras
        changed = context.registry.correct_extras(
            version.digest, extras, subject=version.ref, author=context.config.author
        )
    if changed:
        detail = {"files": [README], "place": place.url, "number": number}
        emit(context, "corrected", version.ref, version.digest, detail)
