"""adaptkit.signing.keys: what is signed is the whole statement, and nothing else passes for it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import artifacts
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from keypairs import key_pair

from adaptkit.errors import AdaptkitError, MissingExtra
from adaptkit.signing import keys
from adaptkit.signing.signatures import BUNDLE, KEY, STATEMENT, Signature, SignatureStore
from adaptkit.signing.statement import Statement
from adaptkit.types import BaseIdentity, Level, Parent

SHIP = BaseIdentity("fleet/ship", (Level("tm1:" + "1" * 64, True), Level("as1:" + "2" * 64, True)))


def statement(content="one", name="naval", **more):
    return Statement(name, artifacts.manifest(content, base=SHIP, **more))


@pytest.fixture(scope="module")
def ada(tmp_path_factory):
    return key_pair(tmp_path_factory.mktemp("keys"), "ada")


@pytest.mark.parametrize(
    "curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name
)
def test_a_signature_holds_and_survives_the_way_through_files(curve, tmp_path):
    pair = key_pair(tmp_path, "one", curve)
    made = keys.sign(statement(), pair.private)
    assert keys.verify(made)
    assert keys.fingerprint(made.key) == keys.fingerprint_of_file(pair.public) == pair.fingerprint
    again = Signature.parse(made.files)
    assert again.files == made.files
    assert keys.verify(again)


@pytest.mark.parametrize(
    "other",
    [
        statement("two"),
        statement(name="medic"),
        statement(rank=4),
        statement(created="2026"),
        statement(facts={"loss": 1}),
        statement(parents=(Parent("sha256:" + "3" * 64),)),
        statement(recipe={"strategy": "linear"}),
        Statement(
            "naval", replace(statement().manifest, base=replace(SHIP, levels=SHIP.levels[1:]))
        ),
        Statement("naval", replace(statement().manifest, base=replace(SHIP, name="fleet/boat"))),
    ],
    ids=str,
)
def test_a_signature_holds_for_no_other_statement(other, ada):
    made = keys.sign(statement(), ada.private)
    assert other.data != made.statement.data
    assert not keys.verify(replace(made, statement=other))


def test_a_signature_holds_for_no_other_key_and_no_other_bytes(ada, tmp_path):
    made, bo = keys.sign(statement(), ada.private), key_pair(tmp_path, "bo")
    assert not keys.verify(replace(made, key=bo.public.read_bytes()))
    bundle = json.loads(made.bundle)
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    forged = payload.replace(
        made.statement.subject.encode(), statement(name="medic").subject.encode()
    )
    assert forged != payload
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(forged).decode()
    assert not keys.verify(
        replace(made, bundle=json.dumps(bundle).encode(), statement=statement(name="medic"))
    )
    bundle["verificationMaterial"]["publicKey"]["hint"] = bo.fingerprint.removeprefix("sha256:")
    assert not keys.verify(
        replace(made, bundle=json.dumps(bundle).encode(), key=bo.public.read_bytes())
    )


@pytest.mark.parametrize(
    "bundle",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"null",
        b'{"mediaType": 3}',
        b"[" * 100_000,
        b'{"verificationMaterial": {}, "dsseEnvelope": {"signatures": []}}',
    ],
)
def test_hostile_bytes_hold_for_nothing(bundle, ada):
    assert not keys.verify(Signature(bundle, statement(), ada.public.read_bytes()))
    assert not keys.verify(replace(keys.sign(statement(), ada.private), key=bundle))


def test_the_standard_tool_verifies_the_files_without_adaptkit(ada, tmp_path):
    contents = {"adapter_config.json": b"{}", "tokenizer/vocab.txt": b"a\n", "README.md": b"# one"}
    bundle = artifacts.bundle(tmp_path / "v1", contents)
    (tmp_path / "v1" / "adaptkit.json").write_text("{}")  # a place's own
    made = keys.sign(Statement.of(bundle.placed), ada.private)
    for name, data in made.files.items():
        (tmp_path / name).write_bytes(data)

    def check():
        tool = Path(sys.executable).parent / "model_signing"
        line = [tool, "verify", "key", "v1", "--signature", BUNDLE, "--public_key", KEY]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert check().returncode == 0, check().stderr
    (tmp_path / "v1" / "adapter_config.json").write_text('{"r": 9}')
    assert check().returncode != 0


def test_an_unusable_key_is_refused_with_its_reason(ada, tmp_path):
    (tmp_path / "text.pem").write_text("hello")
    other = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "ed.pem").write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    small = key_pair(tmp_path, "small", ec.SECP256K1())
    for name in ("text.pem", "ed.pem", small.private.name, ada.public):
        with pytest.raises(
            AdaptkitError,
            match="cannot read a private key in .*no PEM file of a P-256, P-384 or P-521 key"
            "\n  a new pair: openssl ecparam",
        ) as caught:
            keys.sign(statement(), tmp_path / name)
        assert "hello" not in str(caught.value)
    with pytest.raises(AdaptkitError, match="cannot read a public key in"):
        keys.fingerprint_of_file(tmp_path / "text.pem")
    with pytest.raises(AdaptkitError, match="none.pem"):
        keys.sign(statement(), tmp_path / "none.pem")


def test_an_encrypted_key_wants_its_password(tmp_path):
    pair = key_pair(tmp_path, "locked", password=b"aye aye")
    assert keys.is_encrypted(pair.private)
    assert keys.verify(keys.sign(statement(), pair.private, "aye aye"))
    for wrong in ("", "nay-nay"):
        with pytest.raises(
            AdaptkitError, match="(?s)cannot open the private key in .*set ADAPTKIT_KEY_PASSWORD"
        ) as caught:
            keys.sign(statement(), pair.private, wrong)
        assert "nay-nay" not in str(caught.value)


def test_a_wrong_password_that_opens_a_key_to_rubbish_gets_the_same_error_message(tmp_path):
    pair = key_pair(tmp_path, "locked", password=b"aye aye")

    def error_of(password):
        try:
            serialization.load_pem_private_key(pair.private.read_bytes(), password.encode())
        except ValueError as error:
            return str(error)

    wrong = next(
        word for word in map("nay {}".format, range(20_000)) if "password" not in error_of(word)
    )
    with pytest.raises(
        AdaptkitError,
        match="cannot open the private key in .*: the password is missing or is not the right",
    ):
        keys.sign(statement(), pair.private, wrong)


def test_without_the_library_the_error_says_how_to_install_it(ada, monkeypatch):
    made = keys.sign(statement(), ada.private)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    for work in (lambda: keys.sign(statement(), ada.private), lambda: keys.verify(made)):
        with pytest.raises(MissingExtra, match="pip install 'adaptkit-peft\\[sign\\]'"):
            work()


def test_signatures_are_kept_once_and_what_is_none_is_passed_over(ada, tmp_path):
    kept, made = SignatureStore(tmp_path), keys.sign(statement(), ada.private)
    digest = made.statement.manifest.digest
    assert kept.of(digest) == ()
    assert [kept.keep(made), kept.keep(made)] == [True, False]
    again = keys.sign(statement(), ada.private)
    assert kept.keep(again)
    (folder,) = (tmp_path / "signatures").iterdir()
    (folder / ("0" * 32)).mkdir()
    (folder / ("0" * 32) / BUNDLE).write_bytes(b"x")
    (folder / ".new-killed").mkdir()
    assert {one.bundle for one in kept.of(digest)} == {made.bundle, again.bundle}


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data + b" ",
        lambda data: b"{}",
        lambda data: b"[1]",
        lambda data: data.replace(b'"created"', b'"extra":1,"created"'),
        lambda data: data.replace(b'"naval"', b'"naval","name":"medic"'),
    ],
)
def test_a_statement_has_one_spelling(harm, ada):
    files = dict(keys.sign(statement(), ada.private).files)
    assert Signature.parse(files)
    assert Signature.parse(files | {STATEMENT: harm(files[STATEMENT])}) is None
