"""No local path, and no user's name in one, is published."""

from __future__ import annotations

import pytest
from publishing import publish, texts

from adaptkit.extend.review import Delete, Severity
from adaptkit_plugins.reviews.paths import review

ADA = "the home folder of 'ada'"
LOCAL = [
    ("/home/ada/models/ship", ADA),
    ('{"name_or_path": "/Users/ada/ship"}', ADA),
    ("file:///home/ada/x", ADA),
    ("(/home/ada)", ADA),
    ('{"a": "C:\\\\Users\\\\ada\\\\ship"}', ADA),
    ("C:\\Users\\ada\\ship", ADA),
    ("c:/Users/ada/ship", ADA),
    ("/mnt/c/Users/ada/x", ADA),
    ("/root/run/1", "the local path /root/run/1"),
    ("at /mnt/team/naval.", "the local path /mnt/team/naval."),
    ("D:\\models\\ship", "the local path D:\\models\\ship"),
    ("/tmp/out", "the local path /tmp/out"),
]


@pytest.mark.parametrize(("text", "what"), LOCAL)
def test_a_local_path_is_refused_with_file_and_line(text, what, tmp_path):
    (one,) = review(publish(tmp_path, {"tokenizer_config.json": f"{{\n{text}\n".encode()}))
    assert one.severity is Severity.REFUSE
    assert one.text == (
        f"line 2 of tokenizer_config.json names {what}: write it otherwise and add the adapter again, or "
        '[review] disable = ["paths"] in config.toml'
    )


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/home/ada/x",
        "./home/ada",
        "/home/user/models",
        "/home/<you>/x",
        "fleet/data/naval",
        "s3://data/tmp/x",
        "C:\\",
        "a/b",
        "/v1/chat",
        "1/2",
        "/data",
        "\\n\\t",
        "U:\\\\O\\\\S",
        "hf://datasets/tmp/a",
        "C:\\Users\\me\\x",
    ],
)
def test_what_is_no_local_path_passes(text, tmp_path):
    assert review(publish(tmp_path, {"README.md": text.encode()})) == []


def test_what_was_fixed_when_the_artifact_was_made_is_a_warning(tmp_path):
    (one,) = review(publish(tmp_path, {}, facts={"warnings": ["/home/ada/out/naval has no base"]}))
    assert one.severity is Severity.WARN
    assert one.text.startswith(f"adaptkit.json names {ADA}; it stays so")


def test_a_file_full_of_them_is_one_page(tmp_path):
    objections = texts(review(publish(tmp_path, {"a.txt": b"/home/ada/x\n" * 50})))
    assert (len(objections), objections[-1]) == (21, "and 30 more like these")


def test_it_is_on_unless_switched_off_and_speaks_of_publishing_only(tmp_path):
    assert review(publish(tmp_path, {"a.txt": b"/home/ada/x"}, disable=("paths",))) is None
    assert review(Delete(())) is None
