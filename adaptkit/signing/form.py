"""The form of a signature's files, checked before one is kept, shown or sent on.

A place may hold anything under these names, a private key or a token too. So each file has to be of its type down to
the last byte: a public key is a PEM of exactly one P-256, P-384 or P-521 key, and a bundle is a Sigstore bundle with
no other fields than a signature by a key has. Whether the signature holds is for `keys.verify`.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

LARGEST = 64 << 10  # bytes of one file
LARGEST_KEY = 1 << 10
_PEM = re.compile(
    rb"-----BEGIN PUBLIC KEY-----\n((?:[A-Za-z0-9+/]{1,76}={0,2}\n){1,6})-----END PUBLIC KEY-----\n?"
)
_KEYS = {  # the DER of each kind of key up to its point, and the length of that (RFC 5480)
    bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200"): 65,
    bytes.fromhex("3076301006072a8648ce3d020106052b81040022036200"): 97,
    bytes.fromhex("30819b301006072a8648ce3d020106052b8104002303818600"): 133,
}
_BUNDLE = re.compile(r"application/vnd\.dev\.sigstore\.bundle[A-Za-z0-9.+;= -]{0,40}")
_FIELDS = {"mediaType", "verificationMaterial", "dsseEnvelope"}
_MATERIAL = {"publicKey", "tlogEntries", "timestampVerificationData"}
_ENVELOPE = {"payload", "payloadType", "signatures"}
_SIGNATURE = {"sig", "keyid"}
_STATEMENT = {"_type", "subject", "predicateType", "predicate"}
_WORD = re.compile(r"[A-Za-z0-9+/=_.:-]{0,256}")


class BadForm(ValueError):
    """Files that are no signature; the text says why."""


def check_key(data: bytes) -> None:
    """`BadForm` unless these bytes are one public key of an elliptic curve that signatures are made with."""
    found = _PEM.fullmatch(data) if len(data) <= LARGEST_KEY else None
    try:
        der = base64.b64decode(b"".join(found[1].split()), validate=True) if found else b""
    except ValueError:
        der = b""
    if not any(
        der.startswith(prefix) and len(der) == len(prefix) + point and der[len(prefix)] == 4
        for prefix, point in _KEYS.items()
    ):
        raise BadForm("key.pub is not the PEM of a P-256, P-384 or P-521 public key")


def check_bundle(data: bytes) -> None:
    """`BadForm` unless these bytes are a Sigstore bundle around a signature by a key."""
    if len(data) > LARGEST:
        raise BadForm(f"model.sig has more than {LARGEST:,} bytes")
    try:
        bundle = json.loads(data)
        envelope, material = bundle["dsseEnvelope"], bundle["verificationMaterial"]
        payload = json.loads(base64.b64decode(envelope["payload"], validate=True))
        signatures = envelope["signatures"]
        fits = (
            bundle.keys() <= _FIELDS
            and material.keys() <= _MATERIAL
            and envelope.keys() <= _ENVELOPE
            and payload.keys() <= _STATEMENT
            and _BUNDLE.fullmatch(bundle["mediaType"]) is not None
            and len(signatures) == 1
            and signatures[0].keys() <= _SIGNATURE
            and all(_is_word(value) for value in signatures[0].values())
            and all(_is_word(value) for value in material.get("publicKey", {}).values())
            and not material.get("tlogEntries")
            and not (material.get("timestampVerificationData") or {}).get("rfc3161Timestamps")
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        fits = False
    if not fits:
        raise BadForm("model.sig is not a Sigstore bundle of a signature by a key")


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None
