"""Signing and checking with key pairs, by the model-signing library.

See https://github.com/sigstore/model-transparency.

Notable choices:
- the library's own hashing of a folder is replaced by the hashes of the statement, which the caller
  has verified
- the statement's hash is in the subject's name, and two subjects are equal only when their names
  are
- offline: no Sigstore service is asked for anything
"""

from __future__ import annotations

from contextlib import redirect_stdout
from hashlib import sha256
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, requires_extra
from adaptkit.io.files import os_errors
from adaptkit.io.safe_paths import user_path
from adaptkit.signing.signatures import BUNDLE, KEY, Signature

if TYPE_CHECKING:
    import os

    from adaptkit.signing.statement import Statement

LARGEST = 1 << 16  # bytes of a key file
_ENCRYPTED = b"ENCRYPTED"  # in its first lines, as PEM has it
_HOW = "openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem; openssl ec -in KEY.pem -pubout -out KEY.pub"
_BESIDE = (
    "adaptkit.json",
    "README.md",
)  # in a version's folder, not among the files that are signed


def sign(statement: Statement, key: str | os.PathLike[str], password: str = "") -> Signature:
    """A signature of a statement by the private key in a PEM file."""
    with requires_extra("sign", f"cannot sign '{statement.name}'"):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from model_signing import signing

        path = user_path(key)
        data = _read(path)
        secret = password.encode() or None
        try:
            private = serialization.load_pem_private_key(data, secret)
            signer = signing.Config().use_elliptic_key_signer(private_key=path, password=secret)
        except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
            raise (_locked(path) if _ENCRYPTED in data else _bad_key(path, "private")) from None
        with TemporaryDirectory() as folder:
            target = Path(folder) / BUNDLE
            signer.set_hashing_config(_hashed(statement)).sign(folder, target)
            return Signature(target.read_bytes(), statement, _pem(private.public_key()))


def is_encrypted(key: str | os.PathLike[str]) -> bool:
    """Whether a private key's file asks for a password."""
    return _ENCRYPTED in _read(user_path(key))


def verify(signature: Signature) -> bool:
    """Whether the key that comes with a signature really signed its statement."""
    with requires_extra("sign", "cannot check a signature"):
        from cryptography.exceptions import InvalidSignature
        from model_signing import verifying

        with TemporaryDirectory() as folder, redirect_stdout(StringIO()):  # it may print a remark
            key, bundle = Path(folder) / KEY, Path(folder) / BUNDLE
            key.write_bytes(signature.key)
            bundle.write_bytes(signature.bundle)
            try:
                config = verifying.Config().use_elliptic_key_verifier(public_key=key)
                config.set_hashing_config(_hashed(signature.statement)).verify(folder, bundle)
            except InvalidSignature:
                return False
            except Exception:  # noqa: BLE001  (what is checked is hostile, and the library parses it with a dozen others)
                return False
            return True


def fingerprint(key: bytes) -> str:
    """`sha256:…` of a public key's PEM, as `sha256sum KEY.pub` has it.

    ValueError when it is no such key.
    """
    with requires_extra("sign", "cannot read a public key"):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization

        try:
            return f"sha256:{sha256(_pem(serialization.load_pem_public_key(key))).hexdigest()}"
        except (UnsupportedAlgorithm, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None


def fingerprint_of_file(path: str | os.PathLike[str], data: bytes | None = None) -> str:
    """The fingerprint of the public key in a PEM file, whose bytes may have been read before."""
    found = user_path(path)
    try:
        return fingerprint(_read(found) if data is None else data[:LARGEST])
    except ValueError:
        raise _bad_key(found, "public") from None


def _pem(public: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    data: bytes = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return data


def _read(path: Path) -> bytes:
    with os_errors("read", path), path.open("rb") as file:
        return file.read(LARGEST)


def _locked(path: Path) -> AdaptkitError:
    """Now and then a wrong password decrypts to rubbish, so the library's own error is not used."""
    return AdaptkitError(
        f"cannot open the private key in {path}",
        why="the password is missing or is not the right one",
        fix="set ADAPTKIT_KEY_PASSWORD, or type it when asked",
    )


def _bad_key(path: Path, kind: str) -> AdaptkitError:
    return AdaptkitError(
        f"cannot read a {kind} key in {path}",
        why="it is no PEM file of a P-256, P-384 or P-521 key",
        fix=f"a new pair: {_HOW}",
    )


def _hashed(statement: Statement) -> Any:
    """A model-signing hashing that returns a statement's files, under its subject."""
    from model_signing import hashing, manifest
    from model_signing._hashing.hashing import (
        Digest,  # the one name that is not public, and no public one makes it
    )

    class Subject(manifest.Manifest):  # type: ignore[misc]
        """The files of an artifact; equal to another only with the same statement."""

        def __eq__(self, other: object) -> bool:
            same: bool = super().__eq__(other)
            return same and self.model_name == getattr(other, "model_name", None)

        __hash__ = None  # type: ignore[assignment]

    class Stated(hashing.Config):  # type: ignore[misc]
        """Hashes nothing: what is signed are the hashes of the statement."""

        def hash(self, model_path: object, *, files_to_hash: object = None) -> Any:
            how = manifest.SerializationType.from_args(
                {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": list(_BESIDE),
                }
            )
            items = [
                how.new_item(e.path, Digest("sha256", bytes.fromhex(e.sha256)))
                for e in statement.manifest.files
            ]
            return Subject(statement.subject, items, how)

    return Stated()
