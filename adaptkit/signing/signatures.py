"""One signature with what is needed to check it, and where a workspace stores signatures.

    store/signatures/<digest>/<id>/model.sig        a Sigstore bundle over the files and the statement's hash
                                  /statement.json   what was signed, in canonical form
                                  /key.pub          the public key, PEM

`model_signing verify key DIR --signature model.sig --public_key key.pub` reads the first and the
last, too.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from adaptkit.extend import attachments
from adaptkit.io.files import atomic_write, fsync_directory, os_errors
from adaptkit.signing.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Mapping

KIND = "application/vnd.adaptkit.signature.v1+json"
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
        """Every signature of an artifact that is stored here, by any key and under any name."""
        folder = self._folder(digest)
        with os_errors("read", folder):
            found = (
                sorted(path for path in folder.glob("*") if attachments.ID.fullmatch(path.name))
                if folder.is_dir()
                else []
            )
            read = [{file.name: file.read_bytes() for file in path.iterdir()} for path in found]
        return tuple(signature for files in read if (signature := Signature.parse(files)))

    def keep(self, signature: Signature) -> bool:
        """Keep one; whether it is new here. It appears whole or not at all."""
        folder = self._folder(signature.statement.manifest.digest)
        target = folder / attachments.identity(signature.files)
        if target.is_dir():
            return False
        with os_errors("write", folder):
            folder.mkdir(parents=True, exist_ok=True)
            work = Path(mkdtemp(prefix=".new-", dir=folder))
            try:
                for name, data in signature.files.items():
                    atomic_write(work / name, data)
                work.rename(target)
                fsync_directory(folder)
            except OSError:
                if not target.is_dir():  # else another process stored the same at the same moment
                    raise
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return True

    def _folder(self, digest: str) -> Path:
        return self.root / "signatures" / digest.removeprefix("sha256:")
