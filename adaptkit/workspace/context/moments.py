"""Moments of adapters' inputs that are kept here, and how they travel with the versions they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError
from adaptkit.extend.attachments import MOMENTS, misformed_moments

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from adaptkit.extend import StorageBackend
    from adaptkit.merge.moments import Moments
    from adaptkit.store.attachments import KeptAttachments
    from adaptkit.workspace.context.context import Context


def kept_moments(context: Context) -> KeptAttachments:
    """The moments that were measured or received here."""
    from adaptkit.store.attachments import KeptAttachments

    return KeptAttachments(context.store.root / "moments")


def open_moments(context: Context, digest: str, label: str, stack: ExitStack) -> Moments | None:
    """The moments of an artifact; of several the one over most tokens, None when there is none."""
    from adaptkit.merge.moments import Moments

    found = [
        stack.enter_context(Moments.open(folder, digest, label))
        for folder in kept_moments(context).of(digest)
    ]
    return max(found, key=lambda one: (one.about.tokens, one.id), default=None)


def send_moments(
    context: Context, digest: str, label: str, place: StorageBackend, number: int
) -> None:
    """Attach what was measured of a version to its copy in a place; what is there already is not sent again."""
    folders = kept_moments(context).of(digest)
    kept = [files for folder in folders if not misformed_moments(files := _files(folder))]
    if not kept:
        return
    try:
        there = [dict(files) for files in place.attached(number, MOMENTS)]
        for files in kept:
            if files not in there:
                place.attach(number, MOMENTS, files)
    except AdaptkitError as error:
        context.notify(f"{label} is in {place.url} without its moments: {error.summary}")


def receive_moments(context: Context, place: StorageBackend, number: int, digest: str) -> None:
    """Keep what was measured of a version in a place, where nothing was measured here."""
    from adaptkit.merge.moments import ABOUT, About

    if not number or kept_moments(context).of(digest):
        return
    try:
        for files in place.attached(number, MOMENTS):
            try:
                fits = About.parse(files[ABOUT]).adapter == digest
            except (KeyError, TypeError, ValueError, RecursionError):
                continue  # it is something else
            if fits and not misformed_moments(files):
                kept_moments(context).keep(digest, files)
    except AdaptkitError as error:
        context.notify(f"the moments of {place.url}@{number} cannot be read: {error.what}")


def _files(folder: Path) -> dict[str, bytes]:
    """The files of an attachment, `about.json` last: the last one makes it appear."""
    from adaptkit.merge.moments import ABOUT

    names = sorted((path.name for path in folder.iterdir()), key=lambda name: (name == ABOUT, name))
    return {name: (folder / name).read_bytes() for name in names}
