"""One signature with what is needed to check it, and where a workspace stores signatures.

    store/signatures/<digest>/<id>/model.sig        a Sigstore bundle over the files and the statement's hash
                                  /statement.json   what was signed, in canonical form
                                  /key.pub          the public key, PEM

`model_signing verify key DIR --signature model.sig --public_key key.pub` reads the first and the
last, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptkit.extend import attachments
from adaptkit.signing.statement import Statement
from adaptkit.store.attachments import KeptAttachments

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KIND = attachments.SIGNATURE
BUNDLE, STATEMENT, KEY = "model.sig", "statement.json", "key.pub"


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature as it travels: nothing in it can be trusted before `keys.verify` accepts it."""

    bundle: bytes
    statement: Statement
    key: bytes

    @classmethod
    def parse(cls, files: Mapping[str, bytes]) -> Signature | None:
        """What was attached to a version; None when it is no signature."""
        try:
            return cls(files[BUNDLE], Statement.parse(files[STATEMENT]), files[KEY])
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            return None

    @property
    def files(self) -> Mapping[str, bytes]:
        """The files to attach; the last makes it appear."""
        return {STATEMENT: self.statement.data, KEY: self.key, BUNDLE: self.bundle}


@dataclass(frozen=True, slots=True)
class SignatureStore:
    """The signatures that a workspace made or met, below its store."""

    root: Path

    def of(self, digest: str) -> tuple[Signature, ...]:
        """Every signature here of an artifact, whoever made it, under whatever name."""
        read = [
            {file.name: file.read_bytes() for file in folder.iterdir()}
            for folder in self._kept.of(digest)
        ]
        return tuple(signature for files in read if (signature := Signature.parse(files)))

    def keep(self, signature: Signature) -> bool:
        """Keep one; whether it is new here. It appears whole or not at all."""
        return self._kept.keep(signature.statement.manifest.digest, signature.files)

    @property
    def _kept(self) -> KeptAttachments:
        return KeptAttachments(self.root / "signatures")
