"""A corrected README.md of the same weights is taken, recorded, and sent where a place can take it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from hashlib import sha256

import pytest
from fault_points import killed_at

from adaptkit import Workspace
from adaptkit.errors import Refused, StorageError, StoreError
from adaptkit.extend import Bundle
from adaptkit.extend.attachments import CORRECTION
from adaptkit.remotes.corrected import LARGEST, Correction
from adaptkit.types import FileEntry, PlacedVersion


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


def corrected(workspace, folder, text):
    (folder / "README.md").write_text(text)
    workspace.add(folder, "naval")


@pytest.fixture
def place(workspace, folder, tmp_path):
    """A folder that holds naval@1, whose README.md is corrected here and not yet there."""
    url = f"file://{tmp_path}/share/naval"
    workspace.add(folder, "naval")
    workspace.push("naval", url)
    corrected(workspace, folder, "# corrected\n")
    workspace.noticed.clear()
    return url


@pytest.fixture
def other(tmp_path):
    """Another person's workspace."""
    noticed = []
    with Workspace.init(tmp_path / "other", notify=noticed.append) as opened:
        opened.noticed = noticed
        yield opened


def attached(workspace, url):
    return workspace.places.open(url).attached(1, CORRECTION)


def test_a_corrected_readme_is_sent_beside_a_version_that_never_changes(workspace, place, tmp_path):
    receipt = workspace.push("naval", place).receipt
    assert (receipt.unchanged, receipt.readme_corrected, receipt.repaired) == (True, True, ())
    assert workspace.noticed == []
    newest = workspace.registry.events(limit=1)[0]
    assert (newest.verb, newest.detail["readme_corrected"]) == ("published", True)
    assert (tmp_path / "share" / "naval" / "v1" / "README.md").read_text() == "# one\n"
    assert not workspace.push("naval", place).receipt.readme_corrected
    assert workspace.noticed == []
    assert len(attached(workspace, place)) == 1
    elsewhere = f"file://{tmp_path}/elsewhere/naval"
    workspace.push("naval", elsewhere)
    workspace.push("naval", elsewhere)
    assert (tmp_path / "elsewhere/naval/v1/README.md").read_text() == "# corrected\n"
    assert attached(workspace, elsewhere) == ()


def test_a_pull_takes_the_corrected_readme_and_records_what_was_there(workspace, place, other):
    digest = other.pull(place).version.digest
    assert readme(other) == "# one\n"
    workspace.push("naval", place)
    again = other.pull(place)
    assert (again.created, again.version.digest, readme(other)) == (False, digest, "# corrected\n")
    assert other.noticed[-1].startswith(f"README.md: the corrected one of {place}@1 was taken")
    assert other.registry.manifest(digest) == other.store.manifest(digest)
    (event,) = [event for event in other.events() if event.verb == "corrected"]
    assert event.subject == "naval@1"
    assert other.store.blob(event.detail["was"]["README.md"]).read_text() == "# one\n"
    other.noticed.clear()
    other.pull(place)
    other.push("naval", place)
    assert other.noticed == []
    assert [event.verb for event in other.events()].count("corrected") == 1
    assert other.fsck(deep=True).sound


def test_an_older_correction_of_a_place_never_replaces_a_newer_one_here(
    workspace, place, folder, other
):
    workspace.push("naval", place)
    other.pull(place)
    corrected(workspace, folder, "# newer\n")
    workspace.pull(place)
    assert readme(workspace) == "# newer\n"
    workspace.push("naval", place)
    corrected(workspace, folder, "# corrected\n")  # taken back
    workspace.push("naval", place)
    other.pull(place)
    assert readme(other) == "# corrected\n"
    assert [
        Correction.read(one, workspace.version("naval").digest).number
        for one in sorted(attached(workspace, place), key=lambda one: one["about.json"])
    ] == [1, 2, 3]


def test_a_readme_that_others_corrected_is_not_replaced_unseen(workspace, place, folder, other):
    other.pull(place)
    workspace.push("naval", place)
    corrected(other, folder, "# theirs\n")
    other.noticed.clear()
    other.push("naval", place)
    (notice,) = other.noticed
    assert notice.startswith(f"{place}@1 keeps its README.md, which was corrected by others")
    other.pull(place)
    assert readme(other) == "# corrected\n"
    corrected(other, folder, "# theirs\n")
    other.push("naval", place)
    workspace.pull(place)
    assert readme(workspace) == "# theirs\n"


def test_sync_rebuild_and_mirror_bring_the_corrected_readme(workspace, place, tmp_path):
    workspace.push("naval", place)
    workspace.mirror(place, f"file://{tmp_path}/copy/naval")
    workspace.mirror(place, f"file://{tmp_path}/copy/naval")
    assert len(attached(workspace, f"file://{tmp_path}/copy/naval")) == 1
    project = tmp_path / "project"
    project.mkdir()
    (project / "adaptkit.toml").write_text(
        f'[adapters]\nnaval = "file://{tmp_path}/copy/naval@1"\n'
    )
    with Workspace.init(tmp_path / "ci", notify=lambda _: None) as ci:
        ci.sync(project)
        assert readme(ci) == "# corrected\n"
    with Workspace.init(tmp_path / "new", notify=lambda _: None) as new:
        new.rebuild(f"file://{tmp_path}/copy")
        assert readme(new) == "# corrected\n"


def test_a_damaged_correction_comes_back_from_a_place_or_gives_way_to_the_first_text(
    workspace, place, other
):
    def lose():
        entry = next(e for e in other.store.manifest(digest).extras if e.path == "README.md")
        other.store.blob(entry.sha256).unlink()
        other.noticed.clear()

    workspace.push("naval", place)
    digest = other.pull(place).version.digest
    lose()
    assert readme(other) == "# corrected\n"
    shutil.rmtree(workspace.places.open(place).folder / "v1.attached")
    lose()
    assert readme(other) == "# one\n"
    assert (
        f"the corrected README.md of {digest[:19]}… is lost: {place} does not have it"
        in other.noticed
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"README.md": b"\xff"}, "README.md is no text"),
        ({"README.md": b"a\0b"}, "not in canonical form"),
        ({"README.md": bytes(LARGEST + 1)}, "it is too large"),
        ({"about.json": b"{}"}, "lacks what it must say"),
        ({"about.json": b"[" * 1000}, "lacks what it must say"),
        ({"about.json": b'{"adapter":"sha256:0","correction":1}'}, "it is of another adapter"),
        ({"about.json": b'{"adapter":"DIGEST","correction":true}'}, "its number is not one from"),
        ({"about.json": b'{"adapter":"DIGEST","correction":1e30}'}, "its number is not one from"),
        ({"about.json": b'{"adapter":"DIGEST","correction":0}'}, "its number is not one from"),
        ({"about.json": b'{"correction":1,"adapter":"DIGEST"}'}, "not in canonical form"),
        ({"more": b""}, "it does not have the files"),
    ],
)
def test_what_is_no_correction_is_left_out_by_pull_and_mirror(
    workspace, place, other, tmp_path, change, why
):
    digest = workspace.version("naval").digest
    good = Correction(digest, 1, b"# evil\n").files
    bad = {name: data.replace(b"DIGEST", digest.encode()) for name, data in change.items()}
    workspace.places.open(place).attach(1, CORRECTION, {**good, **bad})
    other.pull(place)
    assert readme(other) == "# one\n"
    (notice,) = [text for text in other.noticed if "was left out" in text]
    assert why in notice
    with pytest.raises(StorageError, match="a corrected README.md of .* was not copied") as caught:
        workspace.mirror(place, f"file://{tmp_path}/copy/naval")
    assert why in str(caught.value)
    assert attached(workspace, f"file://{tmp_path}/copy/naval") == ()


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


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.soak)])
def test_a_pull_killed_at_any_point_has_the_old_readme_or_the_new_one(
    step, workspace, place, tmp_path
):
    with Workspace.init(tmp_path / "made", notify=lambda _: None) as ws:
        ws.pull(place)
    workspace.push("naval", place)
    home = tmp_path / "again"

    def fresh():
        shutil.rmtree(home, ignore_errors=True)
        return shutil.copytree(tmp_path / "made" / ".adaptkit", home)

    def pull(where):
        with Workspace.open(where, notify=lambda _: None) as ws:
            ws.pull(place)

    at, seen = 0, set()
    while point := killed_at(partial(pull, fresh()), at):
        with Workspace.open(home, notify=lambda _: None) as ws:
            assert ws.fsck(places=False).sound, f"killed at {at} ({point})"
            seen.add(readme(ws))
            ws.pull(place)
            digest = ws.version("naval").digest
            assert readme(ws) == "# corrected\n"
            assert ws.registry.manifest(digest) == ws.store.manifest(digest)
            assert [event.verb for event in ws.events()].count("corrected") == 1
        at += step
    assert seen == {"# one\n", "# corrected\n"}


@pytest.mark.parametrize("keep", [True, False])
def test_a_lost_first_readme_that_is_nowhere_stays_an_error_that_names_it(
    workspace, place, tmp_path, keep
):
    lost = tmp_path / "share" / "naval" / "v1" / "README.md"
    was = sha256(lost.read_bytes()).hexdigest()
    lost.unlink()
    blob = workspace.store.blob(was)
    blob.chmod(0o600)
    blob.write_text("# rotten\n") if keep else blob.unlink()
    with pytest.raises(StorageError, match=r"@1 is damaged: README.md \(it is missing\)") as caught:
        workspace.push("naval", place)
    assert caught.value.why == "the bytes it needs are not here"
    assert not lost.exists()
    assert not workspace.fsck(repair=True, deep=True).sound
    assert not lost.exists()


def test_a_first_readme_that_goes_back_is_reviewed_as_all_that_leaves(workspace, folder, tmp_path):
    url = f"file://{tmp_path}/share/naval"
    (folder / "README.md").write_text(f"token hf_{'a' * 40}\n")
    workspace.add(folder, "naval")
    manifest = workspace.store.manifest(workspace.version("naval").digest)
    paths = {e.path: workspace.store.blob(e.sha256) for e in manifest.files + manifest.extras}
    workspace.places.open(url).push(Bundle(PlacedVersion(1, manifest, "naval"), paths), ())
    (tmp_path / "share" / "naval" / "v1" / "README.md").unlink()
    corrected(workspace, folder, "# corrected\n")
    with pytest.raises(Refused, match="README.md as file://.* had it first holds a Hugging Face"):
        workspace.push("naval", url)


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("lose", [False, True], ids=["sent", "sent-and-healed"])
def test_a_push_of_a_corrected_readme_killed_at_any_point_is_done_by_the_next(
    step, lose, workspace, place, tmp_path
):
    """The place gives the old text or the new one, and never half a file, whenever the push is killed."""
    share, before, home = tmp_path / "share", tmp_path / "before", tmp_path / "again"
    first = (share / "naval" / "v1" / "README.md").read_bytes()
    if lose:
        (share / "naval" / "v1" / "README.md").unlink()
    shutil.copytree(share, before)
    made = shutil.copytree(workspace.home.path, tmp_path / "made")

    def fresh():
        for old, at in ((before, share), (made, home)):
            shutil.rmtree(at, ignore_errors=True)
            shutil.copytree(old, at)

    def push():
        with Workspace.open(home, notify=lambda _: None) as ws:
            ws.push("naval", place)

    at, seen = 0, set()
    fresh()
    while point := killed_at(push, at):
        label = f"killed at {at} ({point})"
        there = share / "naval" / "v1" / "README.md"
        assert not there.exists() or there.read_bytes() == first, label
        assert lose or there.exists(), label
        with Workspace.init(tmp_path / f"reader-{at}", notify=lambda _: None) as reader:
            if there.exists():
                reader.pull(place)
                seen.add(readme(reader))
        push()
        assert there.read_bytes() == first, label
        assert len(attached(workspace, place)) == 1, label
        with Workspace.open(home, notify=lambda _: None) as ws:
            assert ws.fsck().sound, label
            assert ws.push("naval", place).receipt.unchanged
        shutil.rmtree(tmp_path / f"reader-{at}")
        fresh()
        at += step
    assert seen == {"# one\n", "# corrected\n"}
