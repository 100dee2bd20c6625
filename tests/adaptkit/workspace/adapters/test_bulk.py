"""Many adapters at once: names from folders, duplicates named, failures that stop no other."""

from __future__ import annotations

import json
import shutil

import pytest
from command_line import Shell

from adaptkit import Workspace
from adaptkit.errors import BadReference, Conflict


@pytest.fixture(scope="module")
def runs(tmp_path_factory, lora_pair):
    """Four adapters in a tree of runs; the last has the bytes of the first."""
    root = tmp_path_factory.mktemp("bulk") / "runs"
    for number in range(4):
        folder = root / ("a" if number < 2 else "b") / f"run-{number}"
        shutil.copytree(lora_pair[0], folder)
        file = folder / "adapter_config.json"
        config = json.loads(file.read_text()) | {"lora_alpha": 1 + number % 3}
        file.write_text(json.dumps(config))
    return root


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


def test_several_folders_are_added_under_their_own_names_with_a_summary(shell, runs):
    (runs / "a" / "notes.txt").write_text("x")
    done = shell.run("add", *sorted((runs / "a").iterdir()), *sorted((runs / "b").iterdir()))
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["run-0@1", "run-1@1", "run-2@1", "run-3@1"]
    assert "the bytes of run-0@1" in done.stdout
    assert "4 added, 1 with the bytes of another" in done.stderr
    assert "1 files left out" in done.stderr
    again = shell.run("add", "--recursive", runs)
    assert again.stderr.startswith("0 added, 4 unchanged")


def test_names_are_made_of_the_folder_and_its_parent(shell, runs):
    added = shell.json("add", "--recursive", runs, "--name-from", "{parent}-{dir}")["added"]
    assert [one["name"] for one in added] == ["a-run-0", "a-run-1", "b-run-2", "b-run-3"]
    assert added[3]["same_as"] == "a-run-0@1"
    text = shell.refused("add", runs / "a" / "run-0", "--name-from", "{date}")
    assert (
        "'{date}' is unknown in the name '{date}': a name is made from {dir} and {parent}" in text
    )


def test_two_folders_of_one_name_are_refused_before_anything_is_added(tmp_path, runs):
    with Workspace.open(tmp_path / "home") as ws:
        with pytest.raises(Conflict, match="two adapters would be called 'a'") as error:
            ws.add_all([runs, runs / "b"], recursive=True, name_from="a")
        assert error.value.fix.startswith("--name-from '{parent}-{dir}' tells them apart")
        with pytest.raises(BadReference, match="there is no adapter below"):
            ws.add_all([tmp_path / "home"], recursive=True)
    assert not (tmp_path / "home").exists()


def test_one_name_makes_them_versions_in_order(tmp_path, runs):
    with Workspace.open(tmp_path / "home", notify=lambda _: None) as ws:
        done = ws.add_all([runs], recursive=True, name="naval")
        assert [one.version.ref for one in done.added] == [f"naval@{n}" for n in (1, 2, 3, 4)]


def test_one_that_fails_stops_no_other_and_is_named(shell, runs, tmp_path):
    (tmp_path / "empty").mkdir()
    done = shell.run("add", tmp_path / "empty", runs / "a" / "run-0", runs / "b" / "run-2", code=1)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["run-0@1", "run-2@1"]
    assert f"{tmp_path}/empty has no adapter_config.json" in done.stderr
    assert "2 added" in done.stderr
    assert "1 failed" in done.stderr


def test_several_versions_or_whole_adapters_are_removed_at_once(shell, runs):
    shell.run("add", "--recursive", runs, "--name", "naval")
    shell.run("add", "--recursive", runs)
    asked = shell.run("rm", "run-0", "run-1@1", given="y\n")
    assert "move run-0@1 (" in asked.stderr
    assert "2 in the trash" in asked.stderr
    removed = shell.json("rm", "--all", "naval", "--yes")["removed"]
    assert {one["version"] for one in removed} == {1, 2, 3, 4}
    assert [one["name"] for one in shell.json("list")] == ["run-2", "run-3"]


def test_what_was_made_from_another_is_removed_before_it(tmp_path, runs):
    with Workspace.open(tmp_path / "home", notify=lambda _: None) as ws:
        ws.add_all([runs / "a"], recursive=True)
        ws.merge(["run-0", "run-1"], name="bridge")
        kept = ws.remove_all(["run-0", "run-1"])
        assert kept.removed == ()
        assert "bridge@1 was made from it" in kept.failures[0]
        done = ws.remove_all(["bridge", "run-0", "run-1"])
        assert (len(done.removed), done.failures) == (3, ())
