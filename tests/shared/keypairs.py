"""Real key pairs, made when a test asks for them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class KeyPair:
    """The files of a pair, and the fingerprint that `sha256sum` gives the public one."""

    private: Path
    public: Path

    @property
    def fingerprint(self) -> str:
        return f"sha256:{sha256(self.public.read_bytes()).hexdigest()}"


def key_pair(
    folder: Path, name: str, curve: ec.EllipticCurve | None = None, password: bytes = b""
) -> KeyPair:
    """A fresh pair, `NAME.pem` and `NAME.pub`, as openssl writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    private = ec.generate_private_key(curve or ec.SECP256R1())
    how = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    pair = KeyPair(folder / f"{name}.pem", folder / f"{name}.pub")
    pair.private.write_bytes(
        private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    )
    pair.public.write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return pair
