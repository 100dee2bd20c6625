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

from adaptkit.errors import Corrupt
from adaptkit.extend import attachments
from adaptkit.io.files import atomic_write, fsync_directory, os_errors
from adaptkit.io.foreign_files import ForeignFolder
from adaptkit.signing.form import LARGEST, BadForm, check_bundle, check_key
from adaptkit.signing.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KIND = "application/vnd.adaptkit.signature.v1+json"
BUNDLE, STATEMENT, KEY = "model.sig", "statement.json", "key.pub"
_MOST = 4  # files of one signature that are read; it has three


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature as it travels: nothing in it can be trusted before `keys.verify` accepts it."""

    bundle: bytes
    statement: Statement
    key: bytes

    @classmethod
    def read(cls, files: Mapping[str, bytes]) -> Signature:
        """What was attached to a version, its form checked; `BadForm` says why it is no signature."""
        if files.keys() != {BUNDLE, STATEMENT, KEY}:
            raise BadForm(f"it does not have the files {BUNDLE}, {STATEMENT} and {KEY}")
        check_key(files[KEY])
        check_bundle(files[BUNDLE])
        if len(files[STATEMENT]) > LARGEST:
            raise BadForm(f"{STATEMENT} has more than {LARGEST:,} bytes")
        try:
            statement = Statement.parse(files[STATEMENT])
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise BadForm(f"{STATEMENT} is not what a version is signed as") from None
        return cls(files[BUNDLE], statement, files[KEY])

    @classmethod
    def parse(cls, files: Mapping[str, bytes]) -> Signature | None:
        """What was attached to a version; None when it is no signature."""
        try:
            return cls.read(files)
        except BadForm:
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
        # what an earlier adaptkit kept was not checked, so it is read as foreign here, too
        read = [self._files(path) for path in found]
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
                    atomic_write(work / name, data, mode=0o600)
                work.rename(target)
                fsync_directory(folder)
            except OSError:
                if not target.is_dir():  # else another process stored the same at the same moment
                    raise
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return True

    def paths(self, signatures: Iterable[Signature]) -> Mapping[str, Path]:
        """Where the files of signatures that are kept here are stored, by a name to show."""
        found: dict[str, Path] = {}
        for signature in signatures:
            name = attachments.identity(signature.files)
            folder = self._folder(signature.statement.manifest.digest) / name
            found |= {
                f"{file} of the signature {name[:8]}": folder / file for file in signature.files
            }
        return found

    def _files(self, path: Path) -> Mapping[str, bytes]:
        kept = ForeignFolder(path, str(path))
        try:
            return {name: kept.read(name, LARGEST) for name in kept.names()[:_MOST]}
        except (Corrupt, OSError):
            return {}

    def _folder(self, digest: str) -> Path:
        return self.root / "signatures" / digest.removeprefix("sha256:")
