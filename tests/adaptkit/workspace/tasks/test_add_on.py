"""Folders added by real worker processes become the versions that this process would make of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import tiny
from command_line import Shell

from adaptkit import Workspace
from adaptkit_plugins.executors.local import Local


@pytest.fixture
def runs(tmp_path, lora_pair):
    """Two adapters that differ, one with the bytes of the first, one that is damaged, and one with another alpha."""
    for name, source in zip(
        ("a", "b", "c", "d"), (*lora_pair, lora_pair[0], lora_pair[1]), strict=True
    ):
        shutil.copytree(source, tmp_path / "runs" / name)
    weights = tmp_path / "runs" / "d" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    shutil.copytree(lora_pair[0], tmp_path / "runs" / "e")
    config = tmp_path / "runs" / "e" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 3}))
    return tmp_path / "runs"


def known(workspace):
    return {
        one.ref: (one.digest, one.method, one.rank, one.base.status, one.base.levels)
        for one in workspace.list(every=True)
    }


@pytest.mark.parametrize(
    "read", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["named", "read"]
)
def test_versions_stored_by_workers_are_those_of_one_process(tmp_path, runs, tiny_llama, read):
    """Of a base that is only named, and of one whose files each worker reads, for which it imports torch."""
    base = {"base": str(tiny_llama)} if read else {}
    for folder in runs.iterdir():
        tiny.edit_config(folder, base_model_name_or_path="fleet/ship")
    with Workspace.open(tmp_path / "here", notify=lambda _: None) as here:
        one = here.add_all([runs], recursive=True, **base)
        wanted = known(here)
    with Workspace.open(tmp_path / "there", notify=lambda _: None) as there:
        other = there.add_all([runs], recursive=True, **base, on="local")
        assert known(there) == wanted
        assert there.fsck().sound
        again = there.add_all([runs], recursive=True, **base, on="local")
    assert [added.version.ref for added in other.added] == ["a@1", "b@1", "c@1", "e@1"]
    assert [added.same_as for added in other.added] == ["", "", "a@1", ""]
    assert [(a.version.digest, a.skipped) for a in other.added] == [
        (a.version.digest, a.skipped) for a in one.added
    ]
    assert other.failures == one.failures
    (failure,) = other.failures
    assert failure.startswith(f"{runs / 'd'}")
    assert not any(added.created for added in again.added)


@pytest.mark.soak
def test_folders_become_versions_of_one_name_in_their_order(tmp_path, runs):
    with Workspace.open(tmp_path / "home", notify=lambda _: None) as ws:
        done = ws.add_all([runs / "a", runs / "e", runs / "b"], name="x", alias="new", on="local")
        assert [one.version.ref for one in done.added] == ["x@1", "x@2", "x@3"]
        assert ws.version("x@new").number == 3


@pytest.mark.soak
def test_an_adapter_that_does_not_fit_the_base_is_refused_by_a_worker(tmp_path, runs, speaker):
    with Workspace.init(tmp_path / "here", notify=lambda _: None) as ws:
        here = ws.add_all([runs / "a", runs / "b"], base=str(speaker))
    with Workspace.init(tmp_path / "there", notify=lambda _: None) as ws:
        there = ws.add_all([runs / "a", runs / "b"], base=str(speaker), on="local")
        assert ws.list() == ()
    assert there.failures == here.failures
    assert len(there.failures) == 2


def test_workers_that_see_no_files_leave_it_to_this_process(tmp_path, runs, monkeypatch):
    seen = Local.capabilities.fget
    monkeypatch.setattr(
        Local, "capabilities", property(lambda self: replace(seen(self), shared_files=False))
    )
    noticed = []
    with Workspace.open(tmp_path / "home", notify=noticed.append) as ws:
        assert len(ws.add_all([runs / "a", runs / "b"], on="local").added) == 2
    assert noticed[0].startswith("added by this process: the workers do not see ")


@pytest.mark.soak
def test_the_command_adds_on_workers_and_one_path_takes_none(tmp_path, runs):
    shell = Shell(tmp_path)
    added = shell.json("add", runs / "a", runs / "b", "--on", "local")["added"]
    assert [one["name"] for one in added] == ["a", "b"]
    refused = shell.run("add", runs / "a", "--name", "a", "--on", "local", code=2)
    assert "--on is for several PATHs, or --recursive" in refused.stderr
