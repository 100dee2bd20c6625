"""Named remotes: they are never overwritten by accident, and a folder is offered as a URL."""

from __future__ import annotations

import pytest

from adaptkit import Workspace
from adaptkit.errors import BadReference, Conflict, NotFound


@pytest.fixture
def workspace(tmp_path):
    with Workspace.open(tmp_path / "home") as ws:
        ws.add_remote("team", "file:///mnt/team")
        yield ws


def test_adding_over_a_remote_is_an_error_and_changes_nothing(workspace):
    with pytest.raises(Conflict, match="a remote called team already: it is file:///mnt/team") as e:
        workspace.add_remote("team", "file:///mnt/other")
    assert e.value.fix.startswith("adaptkit remote set-url team file:///mnt/other")
    assert workspace.remotes() == {"team": "file:///mnt/team"}


def test_a_remote_gets_another_url_or_name_when_that_is_asked(workspace):
    assert workspace.set_remote_url("team", "file:///mnt/new") == "file:///mnt/team"
    workspace.rename_remote("team", "crew")
    assert workspace.remotes() == {"crew": "file:///mnt/new"}
    workspace.add_remote("spare", "file:///mnt/spare")
    with pytest.raises(Conflict, match="a remote called spare already"):
        workspace.rename_remote("crew", "spare")
    for missing in (
        lambda: workspace.set_remote_url("nope", "file:///x"),
        lambda: workspace.rename_remote("nope", "x"),
    ):
        with pytest.raises(NotFound, match="no remote called 'nope': known are"):
            missing()


def test_a_folder_is_offered_as_a_url(workspace, lora_pair):
    workspace.add(lora_pair[0], "naval")
    for asked in (
        lambda: workspace.add_remote("disk", "/mnt/disk"),
        lambda: workspace.push("naval", "/mnt/disk"),
    ):
        with pytest.raises(BadReference, match="'/mnt/disk' is no URL") as error:
            asked()
        assert error.value.fix == "for a folder: file:///mnt/disk"
