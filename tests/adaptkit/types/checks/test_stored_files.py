"""adaptkit.types.checks.stored_files: never more generous than `Manifest.from_json`, and the same rows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from artifacts import manifest
from hypothesis import given
from hypothesis import strategies as st

from adaptkit.types import Manifest, canonical_json
from adaptkit.types.checks.stored_files import reader

SOUND = manifest(1).to_json()
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([2**63, 10**400, -(2**64), "\0", "\ud800", "x" * 100_001]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def _accepted(text):
    try:
        found = Manifest.from_json(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return found.digest, [(f.path, f.size, f.sha256) for f in found.files + found.extras]


def test_an_ordinary_manifest_is_recognised():
    text = canonical_json(SOUND)
    assert reader()(text) == _accepted(text) != None  # noqa: E711


@given(st.sampled_from([*SOUND, "another"]), VALUES, st.booleans())
def test_what_is_recognised_is_what_would_be_accepted(key, value, spaced):
    text = json.dumps(SOUND | {key: value}, separators=None if spaced else (",", ":"))
    found = reader()(text)
    assert found is None or found == _accepted(text)


@given(st.sampled_from(sorted(SOUND["base"])), VALUES)
def test_a_foreign_base_is_not_recognised_unless_it_would_be_accepted(key, value):
    text = json.dumps(SOUND | {"base": SOUND["base"] | {key: value}}, separators=(",", ":"))
    found = reader()(text)
    assert found is None or found == _accepted(text)


@pytest.mark.parametrize("number", ["1e400", "-1e400", str(10**400), str(2**63), "NaN", "Infinity"])
@pytest.mark.parametrize("shape", ["{}", "[{}]", '["a",{}]', '{{"a":{}}}'])
def test_a_number_out_of_range_is_left_to_the_whole_check(number, shape):
    text = canonical_json(SOUND)[:-1] + f',"another":{shape.format(number)}}}'
    assert _accepted(text) is None
    assert reader()(text) is None


def test_a_digest_that_the_files_do_not_give_is_not_recognised():
    wrong = replace(manifest(1), files=manifest(2).files)
    assert reader()(canonical_json(wrong.to_json())) is None
