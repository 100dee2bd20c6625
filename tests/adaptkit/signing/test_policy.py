"""adaptkit.signing.policy: what the file may say, and a message for everything else."""

from __future__ import annotations

import re
import shutil

import artifacts
import pytest
from keypairs import key_pair

from adaptkit.errors import AdaptkitError, Refused
from adaptkit.signing import keys
from adaptkit.signing.policy import LOCAL, Policy
from adaptkit.signing.statement import Statement
from adaptkit.types import PlacedVersion

TEXT = """
[keys]
ada = "keys/ada.pub"
[[rules]]
names = ["fleet/*", "naval"]
keys = ["ada"]
"""


@pytest.fixture(scope="module")
def ada(tmp_path_factory):
    return key_pair(tmp_path_factory.mktemp("pairs"), "ada")


@pytest.fixture
def read(ada, tmp_path):
    (tmp_path / "keys").mkdir()
    shutil.copy(ada.public, tmp_path / "keys" / "ada.pub")

    def policy(text):
        (tmp_path / "policy.toml").write_text(text)
        return Policy.read(tmp_path / "policy.toml")

    return policy


def signed(ada, name="naval"):
    placed = PlacedVersion(3, artifacts.manifest("one"), name)
    return placed, [keys.sign(Statement.of(placed), ada.private)]


def test_a_key_is_its_file_or_its_fingerprint_and_signatures_are_required_by_default(read, ada):
    policy = read(TEXT)
    assert policy.require
    assert dict(policy.keys) == {"ada": ada.fingerprint}
    again = read("require = false\n" + TEXT.replace("keys/ada.pub", ada.fingerprint))
    assert (again.keys, again.rules, again.require) == (policy.keys, policy.rules, False)


@pytest.mark.parametrize(
    ("name", "fine"),
    [("naval", True), ("fleet/x", True), ("fleet", False), ("navalx", False), ("Naval", False)],
)
def test_names_are_globs(name, fine, read, ada):
    placed, signatures = signed(ada, name)
    if fine:
        assert read(TEXT).judge(placed, "it", LOCAL, signatures) == ("ada", signatures[0])
    else:
        with pytest.raises(
            Refused,
            match=f"it is refused: policy.toml lets no key sign '{name}' here\n  add a rule for it to policy.toml",
        ):
            read(TEXT).judge(placed, "it", LOCAL, signatures)


def test_a_rule_without_places_is_for_all_of_them(read, ada):
    placed, signatures = signed(ada)
    for place in (LOCAL, "s3://bucket/naval", "oci://host/naval"):
        assert read(TEXT).judge(placed, "it", place, signatures)
    policy = read(TEXT + 'places = ["s3://bucket/*", "oci://host/*"]\n')
    assert policy.judge(placed, "it", "s3://bucket/naval", signatures)
    for place in (LOCAL, "s3://other/naval"):
        with pytest.raises(Refused, match="lets no key sign 'naval'"):
            policy.judge(placed, "it", place, signatures)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("require = ", "Invalid"),
        ('require = "yes"', "require is true or false"),
        ("requires = true", "it has 'requires', and a policy has require, keys and rules"),
        ("keys = 3", "[keys] is one table, and [[rules]] are tables"),
        ("[keys]\nada = 3", "the key 'ada' is neither a file nor a fingerprint"),
        ('[keys]\nada = "sha256:12"', "the fingerprint of 'ada' has not 64 hexadecimal digits"),
        ('[[rules]]\nnames = ["*"]\nkeys = ["ada"]', "no key in [keys] called 'ada'"),
        (TEXT + 'place = "x"', "a rule has 'place', and a rule has names, places and keys"),
        ('[[rules]]\nkeys = ["ada"]', "the names of a rule are a list of words"),
        ('[[rules]]\nnames = "*"\nkeys = ["ada"]', "the names of a rule are a list of words"),
        ('[[rules]]\nnames = ["*"]\nkeys = []', "the keys of a rule are a list of words"),
        ("rules = [3]", "[keys] is one table, and [[rules]] are tables"),
        ('[keys]\nada = "policy.toml"', "cannot read a public key in"),
        ('[keys]\nada = "none.pub"', "none.pub"),
    ],
)
def test_an_invalid_policy_is_refused_with_its_reason(text, why, read):
    with pytest.raises(AdaptkitError, match=re.escape(why)):
        read(text)


def test_every_error_names_the_file_and_where_to_look(read, tmp_path):
    with pytest.raises(
        AdaptkitError, match="cannot read the policy .*policy.toml: .*\n  docs/signing.md shows one"
    ):
        read("requires = true")
    with pytest.raises(AdaptkitError, match=r"none.toml"):
        Policy.read(tmp_path / "none.toml")


def test_one_key_is_a_policy_too(ada, tmp_path):
    placed, signatures = signed(ada)
    assert Policy.of_key(ada.public).judge(placed, "it", LOCAL, signatures)[0] == "ada.pub"
    other = key_pair(tmp_path, "bo")
    with pytest.raises(
        Refused,
        match="signed by a key that may not: the unknown key sha256:.*, and --key bo.pub lets bo.pub",
    ):
        Policy.of_key(other.public).judge(placed, "it", LOCAL, signatures)


def test_a_signature_with_an_invalid_key_is_ignored(read, ada):
    from dataclasses import replace

    placed, (one,) = signed(ada)
    with pytest.raises(Refused, match="no readable key signed it, and policy.toml lets ada sign"):
        read(TEXT).judge(placed, "it", LOCAL, [replace(one, key=b"hello")])
