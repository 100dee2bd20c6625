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


RULE = '[[rules]]\nnames = ["*"]\nkeys = ["ada"]\n'
SLIPS = [
    ("require = ", 1, "Invalid value"),
    ('require = "yes"', 1, "'require' is text in quotes, and must be true or false"),
    ("requires = true", 1, "the file has no key 'requires', nearest is 'require'"),
    ("keys = 3", 1, "'keys' is a whole number, and must be a table"),
    ("[keys]\nada = 3", 2, "'keys.ada' is a whole number, and must be text in quotes"),
    ('[keys]\nada = ""', 2, "'keys.ada' is empty"),
    ('[keys]\nada = "sha256:12"', 2, "the fingerprint of 'ada' has not 64 hexadecimal digits"),
    (RULE, 3, "no key in [keys] is called 'ada': known are none yet"),
    (TEXT + 'place = "x"', 7, "[rules.1] has no key 'place', nearest is 'places'"),
    (TEXT + RULE + "require = true", 10, "'require' stands in [rules.2] and belongs at the top"),
    ('[[rules]]\nkeys = ["ada"]', 1, "number 1 of rules has no 'names'"),
    (TEXT + '[[rules]]\nkeys = ["ada"]', 7, "number 2 of rules has no 'names'"),
    (
        '[[rules]]\nnames = "*"\nkeys = ["ada"]',
        2,
        "'names' in number 1 of rules is text in quotes, and must be a list",
    ),
    ('[[rules]]\nnames = ["*"]\nkeys = []', 3, "'keys' in number 1 of rules is empty"),
    (TEXT + '[[rules]]\nnames = ["*"]\nkeys = ["bo"]', 9, "no key in [keys] is called 'bo'"),
    ("rules = [3]", 1, "number 1 of rules is a whole number, and must be a table"),
    ('[rules]\nnames = ["*"]', 1, "'rules' is a table, and must be a list"),
    ("\n\xff", 2, "it is not UTF-8"),
]


@pytest.mark.parametrize(("text", "line", "why"), SLIPS)
def test_a_mistake_in_a_policy_is_an_error_with_file_line_and_reason(text, line, why, tmp_path):
    file = tmp_path / "policy.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(AdaptkitError) as caught:
        Policy.read(file)
    assert caught.value.what == f"cannot read the policy {file}, line {line}"
    assert caught.value.why.startswith(why)
    assert caught.value.fix.endswith("docs/signing.md shows a policy")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[keys]\nada = "policy.toml"', "cannot read a public key in"),
        ('[keys]\nada = "none.pub"', "none.pub"),
    ],
)
def test_an_invalid_policy_is_refused_with_its_reason(text, why, read):
    with pytest.raises(AdaptkitError, match=re.escape(why)):
        read(text)


def test_a_policy_that_is_missing_is_named(tmp_path):
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
