"""Looking into a remote, a place or a folder registers nothing and fetches nothing."""

from __future__ import annotations

import shutil

import pytest
from command_line import Shell

from adaptkit import Workspace
from adaptkit.errors import BadReference, NotFound


@pytest.fixture(scope="module")
def remote(tmp_path_factory, lora_pair):
    """A remote with two versions of naval, the second with an alias, and one of medic."""
    root = tmp_path_factory.mktemp("remote")
    with Workspace.open(root / "home", notify=lambda _: None) as ws:
        ws.add_remote("team", f"file://{root}/team")
        ws.add(lora_pair[0], "naval", message="calm seas")
        ws.push("naval", "team")
        ws.add(lora_pair[1], "naval", alias="prod", new_version=True)
        ws.push("naval@prod", "team")
        ws.add(lora_pair[1], "medic")
        ws.push("medic", "team")
    return f"file://{root}/team"


@pytest.fixture
def shell(tmp_path, remote):
    shell = Shell(tmp_path)
    shell.run("remote", "add", "team", remote)
    return shell


def test_a_remote_is_shown_and_listed(shell, remote):
    shown = shell.json("remote", "show", "team")
    assert shown["url"] == remote
    assert [(one["name"], one["version"]) for one in shown["adapters"]] == [
        ("team:medic", 1),
        ("team:naval", 2),
    ]
    listed = shell.json("list", "team:")
    assert listed == shown["adapters"]
    assert listed[1]["aliases"] == ["prod"]
    every = shell.json("list", "team:", "calm", "--all")
    assert [(one["name"], one["version"]) for one in every] == [("team:naval", 1)]
    assert "team:naval@2" in shell.run("list", "team:").stdout
    assert "cannot narrow team: by --tag" in shell.refused("list", "team:", "--tag", "x")
    assert shell.json("list") == []


def test_a_version_in_a_remote_is_shown_and_logged_without_fetching_it(shell, remote):
    shown = shell.json("show", "team:naval@1")
    assert (shown["name"], shown["version"], shown["message"]) == ("team:naval", 1, "calm seas")
    assert shown["placements"][0]["place"] == f"{remote}/naval"
    assert shell.json("show", f"{remote}/naval@prod")["version"] == 2
    numbers = [one["version"] for one in shell.json("log", "team:naval")["versions"]]
    assert numbers == [2, 1]
    assert "team:naval@2" in shell.run("log", "team:naval").stdout
    assert not (shell.home / "store").exists()


def test_what_is_not_in_a_remote_shows_what_is(shell):
    for command in ("pull", "show", "log"):
        text = shell.refused(command, "team:nope")
        assert "no adapter in team called 'nope': known are medic, naval" in text
        assert "adaptkit list team: shows what is there" in text
    assert "no version in" in shell.refused("pull", "team:naval@9")


def test_versions_here_and_in_a_remote_are_compared_without_registering_them(shell, lora_pair):
    shell.run("add", lora_pair[0], "--name", "naval")
    assert shell.json("diff", "naval", "team:naval@2")
    assert [one["name"] for one in shell.json("list")] == ["naval"]


def test_a_folder_and_a_file_are_shown_without_registering_them(shell, lora_pair, tmp_path):
    shutil.copytree(lora_pair[0], tmp_path / "out")
    for path in ("./out", "./out/adapter_model.safetensors"):
        shown = shell.json("show", path)
        assert (shown["name"], shown["method"], shown["rank"]) == (path, "lora", 4)
        assert shell.run("show", path).stdout.splitlines()[0] == path
    assert shell.json("list") == []


def test_only_a_registry_can_be_searched_by_tag(tmp_path, remote):
    with Workspace.open(tmp_path / "home") as ws:
        ws.add_remote("team", remote)
        with pytest.raises(BadReference, match="cannot narrow team: by --rank"):
            ws.list(words=["team:"], rank="8")
        with pytest.raises(NotFound, match="no remote called 'tame'"):
            ws.list(words=["tame:"])
