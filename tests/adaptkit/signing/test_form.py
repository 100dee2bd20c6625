"""adaptkit.signing.form: what is no signature down to the last byte is neither kept nor sent on."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from keypairs import key_pair

from adaptkit.signing.form import LARGEST, BadForm, check_bundle, check_key


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_public_key_of_each_curve_has_the_form(curve, tmp_path):
    check_key(key_pair(tmp_path, "ada", curve).public.read_bytes())


def test_everything_else_is_refused_as_a_key(tmp_path):
    pair = key_pair(tmp_path, "ada")
    good = pair.public.read_bytes()
    other = rsa.generate_private_key(65537, 2048).public_key()
    for data in (
        pair.private.read_bytes(),
        other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        good + b"hf_" + b"a" * 34,
        good * 2,
        good.replace(b"MFkw", b"MFkx"),
        b"root:x:0:0:root:/root:/bin/bash\n",
        b"",
        b"-----BEGIN PUBLIC KEY-----\n" + b"A" * LARGEST,
    ):
        with pytest.raises(BadForm, match="key.pub is not the PEM of a P-256, P-384 or P-521"):
            check_key(data)


def _bundle(**changed):
    statement = {"_type": "x", "subject": [], "predicateType": "y", "predicate": {}}
    envelope = {
        "payload": base64.b64encode(json.dumps(statement).encode()).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"sig": "QUJD", "keyid": ""}],
    }
    body = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "abc"}, "tlogEntries": []},
        "dsseEnvelope": envelope,
    }
    return json.dumps(body | changed).encode()


def test_a_bundle_with_more_in_it_than_a_signature_is_refused():
    check_bundle(_bundle())
    for data in (
        b"{}",
        b"[" * 10_000,
        _bundle(note="hf_token"),
        _bundle(verificationMaterial={"publicKey": {"hint": "-----BEGIN PRIVATE KEY-----"}}),
        _bundle(dsseEnvelope={"payload": "!", "signatures": []}),
    ):
        with pytest.raises(BadForm, match=r"model\.sig is not a Sigstore bundle"):
            check_bundle(data)
    with pytest.raises(BadForm, match="more than 65,536 bytes"):
        check_bundle(b" " * (LARGEST + 1))
