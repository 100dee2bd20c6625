"""Signatures kept here, and the policy on what may come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import Refused, StorageError, StoreError

if TYPE_CHECKING:
    from adaptkit.extend import StorageBackend
    from adaptkit.signing.policy import Policy
    from adaptkit.signing.signatures import Signature, SignatureStore
    from adaptkit.types import PlacedVersion
    from adaptkit.workspace.context.context import Context


def kept_signatures(context: Context) -> SignatureStore:
    """The signatures that were made or accepted here."""
    from adaptkit.signing.signatures import SignatureStore

    return SignatureStore(context.store.root)


def policy(context: Context) -> Policy | None:
    """The policy that config.toml names; one that cannot be read lets nothing in."""
    if context.config.policy is None:
        return None
    from adaptkit.signing.policy import Policy

    return Policy.read(context.config.policy, context.config.policy_files)


def admit(
    context: Context, place: StorageBackend, placed: PlacedVersion, asked: str | None = None
) -> tuple[Signature, ...]:
    """The signatures of a version in a place, before a byte of it is fetched.

    `Refused` when the policy says so.

    `asked` is the name by which the version was asked for.
    """
    from adaptkit.signing.form import BadForm
    from adaptkit.signing.signatures import KIND, Signature

    rules = policy(context)
    label = f"{place.url}@{placed.number}"
    try:
        attached = place.attached(placed.number, KIND)
    except (StorageError, StoreError) as error:
        if rules is not None:
            raise
        context.notify(f"the signatures of {label} cannot be read: {error.what}")
        return ()
    found: tuple[Signature, ...] = ()
    for files in attached:
        try:
            found += (Signature.read(files),)
        except BadForm as error:
            context.notify(f"a signature of {label} is left out: {error}")
    if rules is not None:
        try:
            rules.judge(placed, label, place.url, found, asked)
        except Refused as error:
            if rules.require:
                raise
            context.notify(error.summary)
    return found
