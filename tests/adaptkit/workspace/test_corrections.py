"""A corrected README.md of the same weights is taken, recorded, and sent where a place can take it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial

import pytest
from fault_points import killed_at

from adaptkit import Workspace
from adaptkit.errors import StoreError
from adaptkit.types import FileEntry


@pytest.fixture
def folder(lora_pair, tmp_path):
    made = shutil.copytree(lora_pair[0], tmp_path / "naval")
    (made / "README.md").write_text("# one\n")
    return made


def readme(workspace):
    return (workspace.path("naval") / "README.md").read_text()


def test_a_corrected_readme_of_the_same_weights_is_taken(workspace, folder):
    first = workspace.add(folder, "naval").version
    workspace.noticed.clear()
    workspace.add(folder, "naval")
    assert workspace.noticed == []
    (folder / "README.md").write_text("# corrected\n")
    again = workspace.add(folder, "naval")
    assert (again.created, again.version.digest) == (False, first.digest)
    (notice,) = workspace.noticed
    assert notice.startswith("README.md: taken for naval@1, whose weights stay as they are")
    assert readme(workspace) == "# corrected\n"
    assert workspace.registry.manifest(first.digest) == workspace.store.manifest(first.digest)
    newest, older = workspace.registry.events(limit=2)
    was = workspace.store.blob(newest.detail["was"]["README.md"])
    assert (newest.verb, newest.subject, older.verb) == ("corrected", "naval@1", "added")
    assert was.read_text() == "# one\n"
    assert workspace.fsck(deep=True).sound


def test_a_folder_without_a_readme_takes_none_away(workspace, folder):
    workspace.add(folder, "naval")
    (folder / "README.md").unlink()
    workspace.add(folder, "naval")
    assert readme(workspace) == "# one\n"


def test_a_correction_that_stopped_between_store_and_registry_is_completed_by_the_next_add(
    workspace, folder
):
    version = workspace.add(folder, "naval").version
    store, registry = workspace.store, workspace.registry
    old = store.manifest(version.digest)
    (folder / "README.md").write_text("# corrected\n")
    workspace.add(folder, "naval")
    new = store.manifest(version.digest)
    # As a process leaves it that was killed after the store's step.
    registry.correct_extras(version.digest, old.extras, subject="naval@1")
    assert readme(workspace) == "# corrected\n"
    workspace.add(folder, "naval")
    assert registry.manifest(version.digest).extras == new.extras != old.extras


def test_extras_whose_bytes_are_not_here_change_nothing(workspace, folder):
    version = workspace.add(folder, "naval").version
    store = workspace.store
    old = store.manifest(version.digest)
    absent = replace(old, extras=(FileEntry("README.md", 3, "0" * 64),))
    with pytest.raises(StoreError, match="the blob 0+ is missing"):
        store.correct(absent)
    assert store.manifest(version.digest) == old


def test_a_place_whose_versions_never_change_keeps_its_readme_and_is_named(
    workspace, folder, tmp_path
):
    workspace.add(folder, "naval")
    place = f"file://{tmp_path}/share/naval"
    workspace.push("naval", place)
    (folder / "README.md").write_text("# corrected\n")
    workspace.add(folder, "naval")
    workspace.noticed.clear()
    assert workspace.push("naval", place).receipt.unchanged
    (notice,) = workspace.noticed
    assert notice.startswith(f"{place}@1 keeps the README.md it was first pushed with")
    other = f"file://{tmp_path}/other/naval"
    workspace.push("naval", other)
    sent = tmp_path / "other" / "naval" / "v1" / "README.md"
    assert sent.read_text() == "# corrected\n"
    workspace.noticed.clear()
    assert workspace.push("naval", other).receipt.unchanged
    assert workspace.noticed == []


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.soak)])
def test_killed_at_any_point_the_readme_is_the_old_or_the_new_one(step, folder, tmp_path):
    made, home = tmp_path / "made", tmp_path / "home"
    with Workspace.init(made, notify=lambda _: None) as ws:
        ws.add(folder, "naval")
    (folder / "README.md").write_text("# corrected\n")

    def fresh():
        shutil.rmtree(home, ignore_errors=True)
        return shutil.copytree(made / ".adaptkit", home)

    def correct(where):
        with Workspace.open(where, notify=lambda _: None) as ws:
            ws.add(folder, "naval")

    at, seen = 0, set()
    while point := killed_at(partial(correct, fresh()), at):
        with Workspace.open(home, notify=lambda _: None) as ws:
            assert ws.fsck(places=False).sound, f"killed at {at} ({point})"
            seen.add(readme(ws))
        correct(home)
        with Workspace.open(home, notify=lambda _: None) as ws:
            digest = ws.version("naval").digest
            assert readme(ws) == "# corrected\n"
            assert ws.registry.manifest(digest) == ws.store.manifest(digest)
            assert [event.verb for event in ws.events()].count("corrected") == 1
        at += step
    assert seen == {"# one\n", "# corrected\n"}
