"""adaptkit.remotes.front_matter: hostile YAML is refused before it is built, and editing one key leaves every other byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptkit.errors import Refused
from adaptkit.remotes import front_matter

BOMB = "a: &a [x, x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a, *a]\n" for n in range(9))


@pytest.mark.parametrize(
    ("front", "why"),
    [
        ("x: !!python/object/apply:os.system ['touch /tmp/x']\n", "it holds a YAML tag"),
        ("x: !include /etc/passwd\n", "it holds a YAML tag"),
        (BOMB, "it holds an anchor or an alias"),
        ("a: &a [*a]\n", "it holds an anchor or an alias"),
        ("a: " + "[" * 50 + "]" * 50 + "\n", "more than 12 levels deep"),
        ("a: " + "x" * 70_000, "it has 70,003 characters, more than 65,536"),
        ("a: [1\n", "expected"),
        ("a: \x1b[31mred\n", "special characters are not allowed"),
        ("- a\n- b\n", "it is a list, not keys with values"),
        ("[a]: b\n", "a value cannot be read: while constructing a mapping found unhashable key"),
        ("just words\n", "it is a str, not keys with values"),
    ],
)
def test_unsafe_front_matter_is_refused_with_its_reason(front, why):
    with pytest.raises(Refused, match="the front matter of README.md cannot be read") as caught:
        front_matter.read(front, "README.md")
    assert why in str(caught.value)
    assert "fix what is between the two ---" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_values_are_what_was_written_and_nothing_is_guessed():
    assert front_matter.read(
        "language: no\ndate: 2026-01-01\nn: 1.10\nlist: [a, b]\nd:\n  e: yes\n", "x"
    ) == {
        "language": "no",
        "date": "2026-01-01",
        "n": "1.10",
        "list": ["a", "b"],
        "d": {"e": "yes"},
    }
    assert front_matter.read("", "x") == front_matter.read("# only a comment\n", "x") == {}


def test_editing_a_key_leaves_every_other_line_alone():
    front = "# why\nlicense: 'mit'   # ours\ntags:\n- b\n\n- a\nx-own: {a:   1}\n"
    changed = front_matter.update(
        front, {"tags": ["b", "a", "peft"], "library_name": "peft", "gone": None}
    )
    assert (
        changed
        == "# why\nlicense: 'mit'   # ours\ntags:\n- b\n- a\n- peft\nx-own: {a:   1}\nlibrary_name: peft\n"
    )
    assert (
        front_matter.update(changed, {"license": None, "tags": None})
        == "# why\nx-own: {a:   1}\nlibrary_name: peft\n"
    )


def test_a_repeated_or_quoted_key_is_set_once():
    assert front_matter.update("a: 1\n'b': 2\na: 3\n", {"a": "9", "b": "8"}) == "a: '9'\nb: '8'\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("---\na: 1\n---\nbody\n", ("a: 1\n", "body\n")),
        ("\ufeff---\r\na: 1\r\n---\r\nbody", ("a: 1\r\n", "body")),
        ("---\n---\nbody", ("", "body")),
        ("no front matter\n---\nx: 1\n---\n", ("", "no front matter\n---\nx: 1\n---\n")),
        ("---\nnever closed\n", ("", "---\nnever closed\n")),
        ("", ("", "")),
    ],
)
def test_a_card_is_cut_at_its_fences(text, parts):
    assert front_matter.split(text) == parts


KEYS = st.sampled_from(["license", "tags", "base_model", "x"])
VALUES = st.one_of(
    st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=20),
    st.lists(st.text("ab: #-'\"", max_size=6), max_size=3),
)


@given(st.dictionaries(KEYS, VALUES), st.dictionaries(KEYS, VALUES))
def test_what_is_set_is_what_is_read_back(first, then):
    front = front_matter.update(front_matter.update("", first), then)
    assert front_matter.read(front, "x") == first | then
    assert front_matter.split(front_matter.join(front, "body")) == (front, "body") or not front
