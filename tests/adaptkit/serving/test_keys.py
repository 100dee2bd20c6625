"""The file of API keys: what is wrong in it is named, and no mistake opens the server to everybody."""

from __future__ import annotations

import pytest

from adaptkit.errors import AdaptkitError
from adaptkit.serving.api.keys import Keys
from adaptkit.workspace.serving.serve import key_table

LONG = "a-long-random-text"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "it has no table [keys] with a key in it"),
        (b"[keys]\n", "it has no table [keys] with a key in it"),
        (b"keys = 5\n", "it has no table [keys] with a key in it"),
        (b"[key]\n", "it has no table [keys] with a key in it"),
        (b"[keys]\na = \n", "line 2: Invalid value"),
        (b"\n\xff\xfe", "line 2: it is not UTF-8"),
    ],
)
def test_a_file_without_a_key_is_refused(tmp_path, text, message):
    file = tmp_path / "keys.toml"
    file.write_bytes(text)
    with pytest.raises(AdaptkitError) as caught:
        key_table(file)
    assert message in str(caught.value)
    assert str(file) in caught.value.what
    assert '"a-long-random-text" = ["team"]' in caught.value.fix


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(AdaptkitError, match=r"nope\.toml: No such file or directory"):
        key_table(tmp_path / "nope.toml")


@pytest.mark.parametrize("spaces", ["team", [5], {"team": True}])
def test_a_key_without_a_list_of_namespaces_is_refused(spaces):
    with pytest.raises(AdaptkitError, match="a key has at least 16 characters and a list"):
        Keys.from_table({LONG: spaces}, "keys.toml")


@pytest.mark.parametrize("key", ["a-long-rändom-text", "a long random text", "a-long-random\ttext"])
def test_a_key_that_no_request_can_bring_is_refused(key):
    with pytest.raises(AdaptkitError, match="that a header of a request cannot bring"):
        Keys.from_table({key: ["*"]}, "keys.toml")


def test_the_scheme_is_read_in_either_case():
    keys = Keys.from_table({LONG: ["team"]}, "keys.toml")
    for header in (f"Bearer {LONG}", f"bearer {LONG}", f"BEARER  {LONG}", LONG):
        assert keys.spaces(header) == {"team"}
    for header in (f"Basic {LONG}", f"Bearer{LONG}", "Bearer", "", None):
        assert keys.spaces(header) is None


def test_a_key_with_no_namespace_may_ask_for_nothing():
    keys = Keys.from_table({LONG: []}, "keys.toml")
    assert keys.spaces(f"Bearer {LONG}") == frozenset()
    assert keys.spaces("Bearer another") is None
