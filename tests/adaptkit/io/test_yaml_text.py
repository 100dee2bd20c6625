"""adaptkit.io.yaml_text: what is refused before anything is built from a text."""

from __future__ import annotations

import datetime as dt

import pytest

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
        ("a: 2026-13-45\n", 1, "a value cannot be read: month must be in 1..12"),
        ('a: 1\n"\\ud800": 2\n', 2, "it has half a surrogate pair"),
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
