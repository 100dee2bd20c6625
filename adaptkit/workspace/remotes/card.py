"""Model cards: the page of a version, as a push would write it and as a place shows it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError
from adaptkit.extend.artifact_files import README
from adaptkit.remotes import transfer
from adaptkit.types import latest_of
from adaptkit.workspace.lookup.artifacts import find_version, manifest_of, verified_tree
from adaptkit.workspace.lookup.corrections import former_texts

if TYPE_CHECKING:
    from adaptkit.extend import StorageBackend
    from adaptkit.remotes.model_card import Ancestor, Subject
    from adaptkit.types import Manifest, Parent, Receipt, Version
    from adaptkit.workspace.context.context import Context

_SOMEWHERE = "hf://OWNER"


def card(context: Context, ref: str, to: str | None = None) -> str:
    """The README.md that a push would give a version; around what people wrote `to` a place, if one is named."""
    version = find_version(context, ref)
    manifest = manifest_of(context, version)
    verified_tree(context, version.digest)
    if to is None:
        return written(context, version, manifest, f"{_SOMEWHERE}/{version.name}", "")
    place = context.places.to_push(to, version.name)
    return written(context, version, manifest, place.url, place.card() if place.shows_card else "")


def written(context: Context, version: Version, manifest: Manifest, url: str, standing: str) -> str:
    """The card of a version at a URL, around the `standing` one there, else around its own README.md."""
    from adaptkit.remotes import model_card

    around = standing or _own(context, manifest)
    return model_card.render(_subject(context, version, manifest, url), around)


def _own(context: Context, manifest: Manifest) -> str:
    entry = next((extra for extra in manifest.extras if extra.path == README), None)
    if entry is None:
        return ""
    return context.store.blob(entry.sha256).read_text("utf-8", errors="replace")


def _subject(context: Context, version: Version, manifest: Manifest, url: str) -> Subject:
    from adaptkit.adapters.adapter import read_config
    from adaptkit.remotes import model_card

    return model_card.Subject(
        version.name,
        url,
        manifest,
        read_config(context.store.tree(version.digest), version.ref),
        version.metrics,
        version.message,
        [_ancestor(context, parent) for parent in manifest.parents],
        version.tags,
        version.description,
    )


def refresh(
    context: Context,
    version: Version,
    manifest: Manifest,
    place: StorageBackend,
    receipt: Receipt,
) -> bool:
    """Write the card of a place anew, where nothing else was sent and what is known has changed.

    Only the latest version of a place has its page. False when nothing was written.
    """
    if not (place.shows_card and receipt.unchanged and receipt.number):
        return False
    latest = latest_of(transfer.placed_versions(place))
    if latest is None or latest.number != receipt.number:
        return False
    standing = place.card()
    text = _with_corrections(context, version, manifest, place.url, standing)
    if text == standing:
        return False
    place.write_card(text, receipt.number)
    return True


def _with_corrections(
    context: Context, version: Version, manifest: Manifest, url: str, standing: str
) -> str:
    """The card around the `standing` one, or around a corrected README.md where nobody wrote on that one since."""
    from adaptkit.remotes import model_card

    text = written(context, version, manifest, url, standing)
    formers = former_texts(context, version)
    if not (standing and formers):
        return text
    subject = _subject(context, version, manifest, url)
    corrected = model_card.render(subject, _own(context, manifest))
    if any(model_card.render(subject, former) == text for former in formers):
        return corrected
    if corrected != text:
        context.notify(
            f"{url}: the page was edited there, so what was written there stays; the corrected {README} of "
            f"{version.ref} is not shown on it"
        )
    return text


def _ancestor(context: Context, parent: Parent) -> Ancestor:
    """What a card shows of a parent.

    Its own card, where it is here, and the places that hold it.
    """
    from adaptkit.remotes import model_card

    text = ""
    with suppress(AdaptkitError):
        extras = {entry.path: entry for entry in context.store.manifest(parent.digest).extras}
        if README in extras:
            text = context.store.blob(extras[README].sha256).read_text("utf-8", errors="replace")
    return model_card.Ancestor(
        parent, text, tuple(p.place for p in context.registry.placements(parent.digest))
    )
