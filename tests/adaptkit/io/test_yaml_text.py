"""adaptkit.io.yaml_text: what is refused before anything is built from a text."""

from __future__ import annotations

import datetime as dt

import pytest
from msgspec import Struct, field

from adaptkit.errors import StoreError
from adaptkit.io import yaml_text
from adaptkit.io.yaml_text import BadYaml


def test_plain_yaml_is_loaded_with_its_types():
    assert yaml_text.load("a: 1\nb: [x, 2.5, true]\nc: 2026-01-02\nd: {e: ~}\n") == {
        "a": 1,
        "b": ["x", 2.5, True],
        "c": dt.date(2026, 1, 2),
        "d": {"e": None},
    }
    assert yaml_text.load("") is None


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a: 1\nb: [", 2, "it is not YAML: expected"),
        ("a: 1\nb: &x 1\nc: *x\n", 2, "an anchor or an alias"),
        ("a: 1\n\nb: *x\n", 3, "an anchor or an alias"),
        ("a: !!python/name:os.system\n", 1, "it holds a YAML tag"),
        ("a: \n" + "[" * 900, 2, "it is more than 12 levels deep"),
        ("b: 1\na: 2026-13-45\n", 2, "a value cannot be read: month must be in 1..12"),
        ("b: 1\n2026-13-45: a\n", 2, "a value cannot be read: month must be in 1..12"),
        (f"b: {{a: 1,\n {'9' * 5000}}}\n", 2, "a value cannot be read: Exceeds the limit"),
        ('a: 1\n"\\ud800": 2\n', 2, "it has half a surrogate pair"),
        ("a: 1\nb: {c: 2}\na: 3\n", 3, "the key 'a' occurs twice"),
        ("a: 1\n? [b]\n: 2\n", 2, "a value cannot be read: while constructing a mapping"),
        ("a: \x00", 1, "special characters are not allowed"),
    ],
)
def test_a_mistake_has_its_line(text, line, why):
    with pytest.raises(BadYaml, match=why) as caught:
        yaml_text.load(text)
    assert caught.value.line == line


def test_a_file_that_is_too_large_or_no_text_is_named_and_read_no_further(tmp_path):
    file = tmp_path / "train.yaml"
    file.write_bytes(b"# \n" * (1 << 20))
    with pytest.raises(BadYaml, match=r"^it is larger than 1,048,576 bytes$"):
        yaml_text.read(file)
    file.write_bytes(b"rank: 8\nname: \xff")
    with pytest.raises(BadYaml, match=r"^line 2: it is not UTF-8$"):
        yaml_text.read(file)
    with pytest.raises(StoreError, match=r"cannot read .*missing.yaml"):
        yaml_text.read(tmp_path / "missing.yaml")


def test_keys_and_items_have_the_lines_that_they_are_written_on():
    found = yaml_text.document("a: 1\nlist:\n  - x\n  - {b: 2,\n     c: 3}\n7: seven\n")
    assert found.value == {"a": 1, "list": ["x", {"b": 2, "c": 3}], 7: "seven"}
    places = [(), ("a",), ("list",), ("list", 0), ("list", 1, "b"), ("list", 1, "c"), (7,)]
    assert [found.line(*where) for where in places] == [1, 1, 2, 3, 4, 5, 6]
    assert found.line("list", 1, "missing", "more") == 4
    assert yaml_text.document("").line("a") == 1


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    size: int | None = None
    names: str | tuple[str, ...] = ()


class File(Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    items: tuple[Item, ...] = ()
    table: dict[str, Item] = field(default_factory=dict)
    one: Item | None = None


@pytest.mark.parametrize(
    ("text", "line", "why", "fix"),
    [
        ("items: []\n", 1, "the file has no 'title'", "add title: …; "),
        (
            "title: t\nitmes: []\n",
            2,
            "the file has no key 'itmes', nearest is 'items'",
            "known are title, items, table, one; ",
        ),
        (
            "title: t\nitems:\n- {size: 1}\n- {size: 2,\n   nmae: x}\n",
            5,
            "number 2 of items has no key 'nmae', nearest is 'names'",
            "known are size, names; ",
        ),
        (
            "title: t\ntable:\n  a: {size: 1}\n  b: {size: x}\n",
            4,
            "'table.b.size' is a text, and must be a whole number",
            "",
        ),
        (
            "title: t\none:\n  size: 1.5\n",
            3,
            "'one.size' is a number, and must be a whole number",
            "",
        ),
        (
            "title: t\none:\n  names:\n  - x\n  - 5\n",
            5,
            "number 2 of names is a whole number, and must be a text",
            "",
        ),
        ("title: t\none: {names: 5}\n", 2, "must be a text or a list", ""),
        ("title: t\none: []\n", 2, "'one' is a list, and must be a table", ""),
        ("- title\n", 1, "the file is a list, and must be a table", ""),
        ("title:\n", 1, "'title' is empty, and must be a text", ""),
    ],
)
def test_what_a_struct_does_not_allow_has_its_line_and_is_said_in_plain_words(text, line, why, fix):
    with pytest.raises(BadYaml) as caught:
        yaml_text.parse(yaml_text.document(text), File)
    assert why in caught.value.why
    assert (caught.value.line, caught.value.fix) == (line, fix)


def test_what_a_struct_allows_is_converted():
    text = "title: t\nitems: [{size: 3, names: [x]}]\none: {names: y}\n"
    assert yaml_text.parse(yaml_text.document(text), File) == File(
        "t", (Item(3, ("x",)),), {}, Item(names="y")
    )
