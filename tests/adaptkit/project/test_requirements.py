"""`adaptkit.toml`: everything a person may write there is understood, or refused with the line."""

from __future__ import annotations

import pytest

from adaptkit.errors import BadProject, StoreError
from adaptkit.io import toml_file
from adaptkit.project.requirements import PROJECT, Numbers, Project


@pytest.fixture
def read(tmp_path):
    def reading(text, data=None):
        (tmp_path / PROJECT).write_bytes(data or text.encode())
        return Project.find(tmp_path)

    return reading


def test_every_form_is_understood_and_has_one_spelling(read):
    project = read("""
[remotes]
team = "s3://adapters/fleet/"
[adapters]
tag = "hf://fleet/naval@3"
alias = "team:naval@prod"
short = ">=3"
behind = "team:naval@>=2, <5"
table = {from = "team:naval", version = ">= 2,<5"}
"fleet/own" = {version = 4}
[adapters.far]
from = "oci://host:5000/fleet/naval"
version = "!=2"
""")
    assert {name: str(asked) for name, asked in project.adapters.items()} == {
        "tag": "hf://fleet/naval@3",
        "alias": "team:naval@prod",
        "short": "short@>=3",
        "behind": "team:naval@>=2,<5",
        "table": "team:naval@>= 2,<5",
        "fleet/own": "fleet/own@4",
        "far": "oci://host:5000/fleet/naval@!=2",
    }
    assert project.remotes == {"team": "s3://adapters/fleet"}
    assert {name: asked.line for name, asked in project.adapters.items()} == {
        "tag": 5,
        "alias": 6,
        "short": 7,
        "behind": 8,
        "table": 9,
        "fleet/own": 10,
        "far": 11,
    }


@pytest.mark.parametrize(
    ("text", "best"),
    [
        ("", 5),
        (">=3", 5),
        (">3", 5),
        ("<3", 2),
        ("<=3", 3),
        ("4", 4),
        ("=4", 4),
        ("==4", 4),
        (">=2,<5,!=4", 3),
        (">5", None),
    ],
)
def test_the_highest_number_that_matches_is_taken(text, best):
    assert Numbers(text).best([1, 2, 3, 4, 5]) == best


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[adapters]\nnaval = \n", "adaptkit.toml, line 2: Invalid value"),
        (
            "[adapters]\n\nnaval = 3\n",
            "adaptkit.toml, line 3: cannot read what 'naval' is: it is a reference, or a table",
        ),
        (
            "[adapters]\nnaval = {form = 'x'}\n",
            "adaptkit.toml, line 2: cannot read what 'naval' is",
        ),
        (
            "[adapters]\nnaval = './out/naval'\n",
            "line 2: './out/naval' is a folder: others do not have it",
        ),
        ("[adapters]\nnaval = 'team:naval@'\n", "line 2: cannot read '@' in 'team:naval@'"),
        (
            "[adapters]\nnaval = {from = 'team:naval@3', version = '>=3'}\n",
            "line 2: 'team:naval@3' with the version '>=3' gives two versions",
        ),
        (
            "[adapters]\nnaval = {from = 'team:naval', version = '~3'}\n",
            "line 2: cannot read the version '~3'",
        ),
        ("[adapters]\na = 'b@1'\nLATEST = 'b'\n", "line 3: 'LATEST' is not a name"),
        ("adapters = 3\n", "line 1: 'adapters' is not a table"),
        ("[adapters]\n[adapter]\n", "line 2: 'adapter' is unknown"),
        ("[remotes]\nteam = 'here'\n", "line 2: the remote 'team' is not a URL"),
        (
            "[adapters]\n<<<<<<< HEAD\na = '>=1'\n=======\na = '>=2'\n>>>>>>> x\n",
            "line 2: a merge conflict begins here",
        ),
        ("[adapters]\na = '>=1'\na = '>=2'\n", "adaptkit.toml, line 3: Cannot overwrite a value"),
        ("a = " + "[" * 5000, "adaptkit.toml cannot be read: it is nested too deeply"),
        ("a = " + "9" * 5000, "adaptkit.toml cannot be read: a value cannot be read: Exceeds"),
    ],
)
def test_a_mistake_is_refused_with_its_line(read, text, message):
    with pytest.raises(BadProject) as error:
        read(text)
    assert message in str(error.value)
    assert error.value.fix


def test_bytes_that_are_not_utf_8_are_refused_with_their_line(read):
    with pytest.raises(BadProject, match=r"adaptkit.toml, line 2: it is not UTF-8"):
        read("", b"[adapters]\na = '\xff'\n")


def test_windows_line_ends_are_only_line_ends(read):
    assert str(read("", b"[adapters]\r\na = '>=1'\r\n").adapters["a"]) == "a@>=1"


def test_the_lines_of_a_long_file_are_looked_for_once(read, monkeypatch):
    """Each of 3,000 entries has its line in an error message; to look for each anew took minutes."""
    looked = []
    monkeypatch.setattr(
        toml_file, "_name_of", lambda written: looked.append(written) or written.strip()
    )
    project = read("[adapters]\n" + "".join(f'a{i} = "hf://fleet/a{i}@1"\n' for i in range(3000)))
    assert [project.adapters[f"a{i}"].line for i in (0, 7, 2999)] == [2, 9, 3001]
    assert len(looked) == 3001


def test_a_project_file_without_an_end_is_refused_before_it_is_read(read, tmp_path):
    with (tmp_path / PROJECT).open("wb") as file:
        file.truncate(40 << 30)
    with pytest.raises(StoreError, match=r"cannot read .*adaptkit\.toml: it has 42,949,672,960"):
        Project.find(tmp_path)
