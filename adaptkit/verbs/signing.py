"""Signing versions, and checking who signed them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import AdaptkitError, Refused
from adaptkit.results import Signed
from adaptkit.types import Event, PlacedVersion
from adaptkit.verbs.shelf import Shelf

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from adaptkit.signing.policy import Policy
    from adaptkit.signing.signatures import Signature
    from adaptkit.types import Version


class Signing(Shelf):
    """Says who made an adapter."""

    def sign(self, ref: str, key: str | os.PathLike[str], *, password: str = "") -> Signed:
        """Sign a version with the private key in a PEM file, after hashing its files again; the next push takes it along."""
        from adaptkit.signing import keys
        from adaptkit.signing.statement import Statement

        version = self.version(ref)
        self._present(version.digest)
        made = keys.sign(Statement.of(self._as_placed(version)), key, password)
        who = keys.fingerprint(made.key)
        before = any(one.key == made.key and one.statement.data == made.statement.data and keys.holds(one)
                     for one in self._signatures.of(version.digest))  # fmt: skip
        if not before:
            self._signatures.keep(made)
            self.registry.record(Event("signed", version.ref, version.digest, {"key": who}, author=self.config.author))
            self._emit("signed", version.ref, version.digest, {"key": who})
        return Signed(version.ref, version.digest, who, who, not before)

    def verify_signature(self, ref: str, *, policy: str | os.PathLike[str] | None = None,
                         key: str | os.PathLike[str] | None = None) -> Signed:  # fmt: skip
        """Who signed a version, here or in a place, as a policy or one public key demands; `Refused` says why not.

        Files that are here are hashed again; of a place, what it states is checked, and a pull hashes what arrives.
        """
        from adaptkit.signing.policy import LOCAL, Policy

        if (policy is None) == (key is None):
            raise AdaptkitError(f"cannot verify who signed '{ref}'", why="it takes a policy or a key, and one of them")
        demanded = Policy.read(policy) if policy is not None else Policy.of_key(key or "")
        parsed = refs.parse(ref)
        if isinstance(parsed, (refs.UrlRef, refs.RemoteRef)):
            return self._signed_there(ref, demanded)
        version = self.version(ref)
        self._present(version.digest)
        placed = self._as_placed(version)
        found = self._signatures.of(version.digest)
        try:
            name, signature = demanded.judge(placed, version.ref, LOCAL, found)
        except Refused:
            more = tuple(self._elsewhere(version))  # whoever shares this registry may have pushed it signed
            if not more:
                raise
            name, signature = demanded.judge(placed, version.ref, LOCAL, (*found, *more))
            self._signatures.keep(signature)
        return _signed(version.ref, version.digest, name, signature)

    def _signed_there(self, ref: str, demanded: Policy) -> Signed:
        from adaptkit import publish
        from adaptkit.signing.signatures import KIND, Signature

        parsed = refs.parse(ref)
        place, selector = self.places.to_pull(ref)
        placed = publish.choose(place, selector)
        label = f"{place.url}@{placed.number}"
        found = tuple(filter(None, map(Signature.parse, place.attached(placed.number, KIND))))
        asked = parsed.name if isinstance(parsed, refs.RemoteRef) else None
        name, signature = demanded.judge(placed, label, place.url, found, asked)
        return _signed(label, placed.manifest.digest, name, signature)

    def _as_placed(self, version: Version) -> PlacedVersion:
        """A version as a push would carry it."""
        return PlacedVersion(version.number, self._manifest(version), version.name, version.message, version.author)

    def _elsewhere(self, version: Version) -> Iterator[Signature]:
        """The signatures in the places where a version lies, so far as they can be asked."""
        from adaptkit.signing.signatures import KIND, Signature

        for placement in self.registry.placements(version.digest):
            try:
                attached = self.places.open(placement.place).attached(placement.number, KIND)
            except AdaptkitError as error:
                self.notify(f"{placement.place}: {error.what}")
                continue
            yield from filter(None, map(Signature.parse, attached))


def _signed(label: str, digest: str, name: str, signature: Signature) -> Signed:
    from adaptkit.signing import keys

    return Signed(label, digest, name, keys.fingerprint(signature.key))
