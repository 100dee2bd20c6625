"""adaptkit.evaluation.suites: what a suite is, and how an answer is scored."""

from __future__ import annotations

import json
import os

import pytest

from adaptkit.errors import BadData, NotFound, StoreError
from adaptkit.evaluation.suites import SCORERS, read_suites

PAIR = {"prompt": "hull?", "completion": "Hull 90."}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("score", "answer", "expected", "right"),
    [
        ("exact", " Hull 90. ", "Hull 90.", True),
        ("exact", "Hull 9.", "Hull 90.", False),
        ("contains", "It is Hull 90. Over.", "Hull 90.", True),
        ("contains", "hull 90.", "Hull 90.", False),
        ("regex", "Hull 93.", r"^Hull \d+\.$", True),
        ("regex", "Hull.", r"\d", False),
        ("json", '{"hull": 90}', "", True),
        ("json", "hull: 90", "", False),
        ("json", "[" * 100_000, "", False),
    ],
)
def test_an_answer_is_scored_by(score, answer, expected, right):
    assert SCORERS[score](answer, expected) is right


def test_the_rows_of_a_file_choose_the_score(tmp_path):
    write(tmp_path / "naval.jsonl", PAIR)
    write(tmp_path / "taste.jsonl", {"prompt": "a", "chosen": "b", "rejected": "c"})
    (tmp_path / "log.txt").write_text("Hull 90.\n")
    found = {suite.name: suite.score for suite in read_suites([tmp_path])}
    assert found == {"naval": "exact", "taste": "pairwise", "log": "perplexity"}


def test_a_suite_in_yaml_names_its_data_and_score(tmp_path):
    write(tmp_path / "rows.jsonl", *[PAIR] * 5)
    (tmp_path / "naval.yaml").write_text(
        "data: rows.jsonl\nscore: contains\nrows: 3\nnew_tokens: 9"
    )
    (suite,) = read_suites([tmp_path])
    assert (suite.name, suite.score, len(suite.rows), suite.new_tokens) == (
        "naval",
        "contains",
        3,
        9,
    )
    (other,) = read_suites([tmp_path / "rows.jsonl"])
    assert suite.digest != other.digest


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("data: rows.jsonl\nscore: bleu", NotFound, "line 2: no score called 'bleu'"),
        ("data: rows.jsonl\nscores: exact", NotFound, "line 2: no key of a suite called 'scores'"),
        ("data: rows.jsonl\nscore: pairwise", BadData, "cannot be scored by 'pairwise'"),
        ("data: rows.jsonl\nrows: 0", BadData, "line 2: rows is 0: it is a whole number"),
        ("data: rows.jsonl\nname: a b", BadData, "cannot be called 'a b'"),
        ("data: rows.jsonl\nscore: regex", BadData, "row 1 of .* is no regex"),
        ("score: exact", BadData, "it names no data file"),
        ("[", BadData, "it is not YAML"),
    ],
)
def test_a_suite_that_makes_no_sense_says_why(text, kind, message, tmp_path):
    write(tmp_path / "rows.jsonl", PAIR | {"completion": "("})
    (tmp_path / "naval.yaml").write_text(text)
    with pytest.raises(kind, match=message):
        read_suites([tmp_path / "naval.yaml"])


def test_two_suites_of_one_name_and_an_empty_folder_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(BadData, match="there is no suite in"):
        read_suites([tmp_path / "a"])
    files = [write(tmp_path / "n.jsonl", PAIR), write(tmp_path / "a" / "n.jsonl", PAIR)]
    with pytest.raises(BadData, match="two suites are called 'n'"):
        read_suites(files)


def test_pipes_and_links_in_circles_in_a_folder_of_suites_are_passed_over(tmp_path):
    (tmp_path / "naval.jsonl").write_text('{"prompt": "Status?", "completion": "Hull 90%."}\n')
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "circle.jsonl").symlink_to("circle.jsonl")
    assert [suite.name for suite in read_suites([tmp_path])] == ["naval"]
    (tmp_path / "named.yaml").write_text("data: pipe.jsonl\n")
    with pytest.raises(StoreError, match=r"cannot read .*pipe\.jsonl: it is not a file"):
        read_suites([tmp_path])


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"prompt": "hull?", "completion": "no", "label": False}, "judgements"),
        ({"text": "hull", "label": "ship"}, "classes"),
    ],
)
def test_rows_that_say_no_answer_are_no_suite(tmp_path, row, form):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(BadData, match=f"rows.jsonl is no suite: it holds {form}, which say no"):
        read_suites([path])
