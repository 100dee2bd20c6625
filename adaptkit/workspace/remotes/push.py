"""Publish versions at URLs and in remotes."""

from __future__ import annotations

from dataclasses import asdict, replace
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

from adaptkit import refs
from adaptkit.errors import (
    AdaptkitError,
    BadReference,
    Corrupt,
    NotFound,
    Refused,
    StorageError,
)
from adaptkit.extend import Bundle, PushOptions
from adaptkit.extend.artifact_files import README
from adaptkit.extend.review import Publish
from adaptkit.io.files import atomic_write
from adaptkit.io.staging import staging
from adaptkit.remotes import transfer
from adaptkit.types import FileEntry, PlacedVersion, Placement, latest_of
from adaptkit.workspace.context.corrected import lost_readmes, send_corrected
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.moments import send_moments
from adaptkit.workspace.context.reviews import check_reviews, review
from adaptkit.workspace.context.signatures import kept_signatures
from adaptkit.workspace.lookup.artifacts import ensure_present, find_version, manifest_of
from adaptkit.workspace.remotes.card import refresh, written
from adaptkit.workspace.results import Pushed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from adaptkit.extend import StorageBackend
    from adaptkit.signing.signatures import Signature
    from adaptkit.types import Manifest, Receipt, Version
    from adaptkit.workspace.context.context import Context


Older = Literal["refuse", "keep-latest", "as-latest"]
"""What a push of a version older than the place's latest does."""


def push(
    context: Context,
    ref: str,
    to: str,
    *,
    options: PushOptions | None = None,
    older: Older = "refuse",
) -> Pushed:
    """Publish a version at a URL or in a named remote.

    A digest that is there already sends nothing. One that is `older` than the latest there is
    refused, unless it is to stay behind that one or to become the latest itself.

    Where people look at a version's README.md, it gets a model card.
    """
    if older not in get_args(Older):
        raise NotFound("way to push an older version", older, get_args(Older))
    version = find_version(context, ref)
    place = context.places.to_push(to, version.name).asked(options or PushOptions())
    ensure_present(context, version.digest)
    bundle = _bundle(context, version, place)
    signatures = _fitting_signatures(context, bundle.placed)
    _review(context, version, bundle, place, signatures)
    behind = older != "as-latest" and _is_older(context, version, place, refuse=older == "refuse")
    bundle = replace(bundle, placed=replace(bundle.placed, latest=not behind))
    receipt = _send(context, version, bundle, place, alias=_alias_of(ref))
    receipt = _correct(context, version, bundle.manifest, place, receipt)
    if receipt.number:
        context.registry.record_placement(
            Placement(place.url, receipt.number, receipt.digest, context.now()),
            author=context.config.author,
            detail=asdict(receipt),
        )
    emit(context, receipt.state, version.ref, version.digest, asdict(receipt))
    if receipt.note:
        context.notify(f"{place.url}: {receipt.note}")
    if receipt.number:
        _send_signatures(context, bundle.placed, place, receipt.number, signatures)
        send_moments(context, version.digest, version.ref, place, receipt.number)
    return Pushed(version, receipt)


def _bundle(context: Context, version: Version, place: StorageBackend) -> Bundle:
    """A version with the paths of its files in the store, and of texts that the place has lost."""
    manifest = manifest_of(context, version)
    files = manifest.files + manifest.extras
    return Bundle(
        PlacedVersion(version.number, manifest, version.name, version.message, version.author),
        {entry.path: context.store.blob(entry.sha256) for entry in files},
        lost_readmes(context, version, place),
    )


def _review(
    context: Context,
    version: Version,
    bundle: Bundle,
    place: StorageBackend,
    signatures: Sequence[Signature],
) -> None:
    """Show the reviews everything that leaves: files, signatures, and texts that go back."""
    former = {f"{README} as {place.url} had it first": path for path in bundle.former.values()}
    check_reviews(context)
    review(
        context,
        Publish(
            version,
            bundle.manifest,
            place.url,
            MappingProxyType(dict(bundle.paths)),
            context.config.reviews,
            MappingProxyType({**kept_signatures(context).paths(signatures), **former}),
        ),
    )


def _alias_of(ref: str) -> str | None:
    """The alias by which a version was asked for, which then moves in the place too."""
    parsed = refs.parse(ref)
    selector = parsed.selector if isinstance(parsed, refs.NameRef) else None
    return selector.value if selector and selector.kind == "alias" else None


def _send(
    context: Context, version: Version, bundle: Bundle, place: StorageBackend, *, alias: str | None
) -> Receipt:
    """Send what the place lacks, with a model card where people look at it."""
    size = sum(entry.size for entry in bundle.manifest.files)
    with (
        staging(context.tmp) as work,
        context.watch(f"pushing {version.ref}", size, "bytes") as progress,
    ):
        return transfer.push(
            place,
            bundle,
            progress,
            alias=alias,
            dress=lambda bare, standing: _dressed(
                context, bare, version, place.url, standing, work
            ),
        )


def _correct(
    context: Context,
    version: Version,
    manifest: Manifest,
    place: StorageBackend,
    receipt: Receipt,
) -> Receipt:
    """Bring the card of a place up to date, and the README.md of a version that was there already."""
    if refresh(context, version, manifest, place, receipt):
        receipt = replace(receipt, card_refreshed=True)
    was_there = receipt.number and (receipt.unchanged or receipt.repaired)
    if was_there and send_corrected(context, version, manifest, place, receipt.number):
        receipt = replace(receipt, readme_corrected=True)
    return receipt


def push_to_all(
    context: Context,
    ref: str,
    to: Sequence[str],
    *,
    options: PushOptions | None = None,
    older: Older = "refuse",
) -> tuple[Pushed, ...]:
    """Publish a version in several places.

    All are known before anything is sent, and one that fails stops no other.
    """
    try:
        version = find_version(context, ref)
    except NotFound as error:
        if ref.rstrip(":") not in context.places.remotes:
            raise
        raise BadReference(
            f"no adapter called '{ref}'",
            why="it is a remote, and the adapter comes first",
            fix=f"adaptkit push {to[0]} {ref.rstrip(':')}",
        ) from error
    for place in to:
        context.places.to_push(place, version.name).asked(options or PushOptions())
    done, failures = list[Pushed](), list[str]()
    for place in to:
        try:
            done.append(push(context, ref, place, options=options, older=older))
        except AdaptkitError as error:
            failures.append(error.summary)
    if failures:
        done_at = (
            ", ".join(f"{one.receipt.place}@{one.receipt.number}" for one in done) or "no place yet"
        )
        raise StorageError(
            f"{version.ref} could not be pushed to {len(failures)} of {len(to)} places",
            why="; ".join(failures),
            fix=f"it is in {done_at}; the same command sends only what is missing",
        )
    return tuple(done)


def _is_older(context: Context, version: Version, place: StorageBackend, *, refuse: bool) -> bool:
    """Whether what a bare name means in the place is a higher version of this one's name here."""
    own = {v.digest: v for v in context.registry.versions(name=version.name)}  # the last of each
    if all(one.number <= version.number for one in own.values()):
        return False
    there = transfer.placed_versions(place)
    latest = latest_of(there)
    newer = own.get(latest.manifest.digest) if latest else None
    if latest is None or newer is None or newer.number <= version.number:
        return False
    if any(one.manifest.digest == version.digest for one in there):
        return False  # nothing will be sent
    if refuse:
        raise Refused(
            f"{version.ref} is older than the latest in {place.url}",
            why=f"@{latest.number} there is {newer.ref}, and this would get a higher number",
            fix="--yes pushes it and leaves the latest as it is; --as-latest makes it the latest",
        )
    return True


def _dressed(
    context: Context, bundle: Bundle, version: Version, url: str, standing: str, work: Path
) -> Bundle:
    """A bundle whose README.md is its model card, around what people wrote there."""
    data = written(context, version, bundle.manifest, url, standing).encode()
    path = work / README
    atomic_write(path, data)
    entry = FileEntry(README, len(data), sha256(data).hexdigest())
    extras = (*(extra for extra in bundle.manifest.extras if extra.path != README), entry)
    placed = replace(bundle.placed, manifest=replace(bundle.manifest, extras=extras))
    return replace(bundle, placed=placed, paths={**bundle.paths, README: path})


def _fitting_signatures(context: Context, placed: PlacedVersion) -> tuple[Signature, ...]:
    """What was signed of a version, as it is now; that signatures no longer fit is shown."""
    from adaptkit.signing.statement import Statement

    stated = Statement.of(placed)
    kept = [
        signature
        for signature in kept_signatures(context).of(placed.manifest.digest)
        if signature.statement.name == placed.name
    ]
    fitting = tuple(signature for signature in kept if signature.statement.data == stated.data)
    if kept and not fitting:
        why = "; ".join(stated.differences(kept[-1].statement))
        context.notify(
            f"{placed.name}@{placed.number} goes without its signature, which no longer fits: {why}. "
            f"Sign it again: adaptkit sign {placed.name}@{placed.number} --key PRIVATE"
        )
    return fitting


def _send_signatures(
    context: Context,
    placed: PlacedVersion,
    place: StorageBackend,
    number: int,
    signatures: Sequence[Signature],
) -> None:
    """Attach what was signed of a version to its copy in a place.

    What is there already is not sent again.
    """
    if not signatures:
        return
    from adaptkit.signing.signatures import KIND

    try:
        attached = [dict(files) for files in place.attached(number, KIND)]
        for signature in signatures:
            if dict(signature.files) not in attached:
                place.attach(number, KIND, signature.files)
    except (StorageError, Corrupt) as error:
        context.notify(
            f"{placed.name}@{placed.number} is at {place.url}@{number} without its signature: {error.summary}"
        )
