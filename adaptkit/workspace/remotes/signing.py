"""Signing versions, and checking who signed them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import AdaptkitError, Refused
from adaptkit.types import Event, PlacedVersion
from adaptkit.workspace.context.events import emit
from adaptkit.workspace.context.signatures import kept_signatures
from adaptkit.workspace.lookup.artifacts import ensure_present, find_version, manifest_of
from adaptkit.workspace.results import Signed

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from adaptkit.signing.policy import Policy
    from adaptkit.signing.signatures import Signature
    from adaptkit.types import Version
    from adaptkit.workspace.context.context import Context


def sign(context: Context, ref: str, key: str | os.PathLike[str], *, password: str = "") -> Signed:
    """Sign a version with the private key in a PEM file, after hashing its files again.

    The next push takes it along.
    """
    from adaptkit.signing import keys
    from adaptkit.signing.statement import Statement

    version = find_version(context, ref)
    ensure_present(context, version.digest)
    made = keys.sign(Statement.of(_as_placed(context, version)), key, password)
    who = keys.fingerprint(made.key)
    before = any(
        one.key == made.key and one.statement.data == made.statement.data and keys.verify(one)
        for one in kept_signatures(context).of(version.digest)
    )
    if not before:
        kept_signatures(context).keep(made)
        context.registry.record(
            Event("signed", version.ref, version.digest, {"key": who}, actor=context.config.author)
        )
        emit(context, "signed", version.ref, version.digest, {"key": who})
    return Signed(version.ref, version.digest, who, who, not before)


def verify_signature(
    context: Context,
    ref: str,
    *,
    policy: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> Signed:
    """Who signed a version, here or in a place, as a policy or one public key demands.

    `Refused` says why not.

    Files that are here are hashed again; of a place, what it states is checked, and a pull hashes
    what arrives.
    """
    from adaptkit.signing.policy import LOCAL, Policy

    if (policy is None) == (key is None):
        raise AdaptkitError(
            f"cannot verify who signed '{ref}'",
            why="it takes a policy or a key, and one of them",
        )
    demanded = Policy.read(policy) if policy is not None else Policy.of_key(key or "")
    parsed = refs.parse(ref)
    if isinstance(parsed, (refs.UrlRef, refs.RemoteRef)):
        return _signed_there(context, ref, demanded)
    version = find_version(context, ref)
    ensure_present(context, version.digest)
    placed = _as_placed(context, version)
    found = kept_signatures(context).of(version.digest)
    try:
        name, signature = demanded.judge(placed, version.ref, LOCAL, found)
    except Refused:
        more = tuple(
            _elsewhere(context, version)
        )  # another user of this registry may have pushed it signed
        if not more:
            raise
        name, signature = demanded.judge(placed, version.ref, LOCAL, (*found, *more))
        kept_signatures(context).keep(signature)
    return _signed(version.ref, version.digest, name, signature)


def _signed_there(context: Context, ref: str, demanded: Policy) -> Signed:
    from adaptkit.remotes import transfer
    from adaptkit.signing.signatures import KIND, Signature

    parsed = refs.parse(ref)
    place, selector = context.places.to_pull(ref)
    placed = transfer.choose(place, selector)
    label = f"{place.url}@{placed.number}"
    found = tuple(filter(None, map(Signature.parse, place.attached(placed.number, KIND))))
    asked = parsed.name if isinstance(parsed, refs.RemoteRef) else None
    name, signature = demanded.judge(placed, label, place.url, found, asked)
    return _signed(label, placed.manifest.digest, name, signature)


def _as_placed(context: Context, version: Version) -> PlacedVersion:
    """A version as a push would carry it."""
    return PlacedVersion(
        version.number, manifest_of(context, version), version.name, version.message, version.author
    )


def _elsewhere(context: Context, version: Version) -> Iterator[Signature]:
    """The signatures in the places that hold a version, as far as these can be reached."""
    from adaptkit.signing.signatures import KIND, Signature

    for placement in context.registry.placements(version.digest):
        try:
            attached = context.places.open(placement.place).attached(placement.number, KIND)
        except AdaptkitError as error:
            context.notify(f"{placement.place}: {error.what}")
            continue
        yield from filter(None, map(Signature.parse, attached))


def _signed(label: str, digest: str, name: str, signature: Signature) -> Signed:
    from adaptkit.signing import keys

    return Signed(label, digest, name, keys.fingerprint(signature.key))
