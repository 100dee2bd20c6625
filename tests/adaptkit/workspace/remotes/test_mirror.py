"""Remotes: copies that are whole, verified and complete, and checks that leave nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from concurrency import killed

from adaptkit import Workspace
from adaptkit.errors import BadReference, NotFound, Refused, StorageError

ADAPTKIT = Path(sys.executable).with_name("adaptkit")


@pytest.fixture
def team(workspace, lora_pair, tmp_path):
    """A workspace with two remotes; `naval` has three versions in the first, `medic` one."""
    workspace.set_remote("team", f"file://{tmp_path}/team")
    workspace.set_remote("spare", f"file://{tmp_path}/spare")
    for number in (1, 2, 3):
        push(workspace, lora_pair[0], tmp_path, number)
    workspace.add(lora_pair[1], "medic")
    workspace.push("medic", "team")
    return workspace


def push(workspace, adapter, folder, number, alias=None):
    source = shutil.copytree(adapter, folder / f"made-{number}")
    workspace.add(
        tiny.edit_config(source, lora_alpha=number), "naval", alias="prod" if number == 2 else alias
    )
    workspace.push("naval@prod" if number == 2 else "naval", "team")


def files(folder):
    """What lies below a folder, less what is about the machine."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".adaptkit-refs.lock"
    }


def test_a_mirror_of_a_remote_is_the_same_bytes_and_needs_no_registry(team, tmp_path):
    bare = tmp_path / "bare"
    with Workspace.open(bare, notify=lambda _: None) as ws:
        report = ws.mirror(f"file://{tmp_path}/team", f"file://{tmp_path}/spare")
        assert not ws.home.database.exists()
    assert files(tmp_path / "spare") == files(tmp_path / "team")
    assert len(report.versions) == 4
    assert report.aliases == (f"file://{tmp_path}/spare/naval@prod → 2",)
    assert not list(bare.rglob("*.safetensors"))


def test_mirrored_again_nothing_is_sent_and_only_what_is_new_follows(team, tmp_path, lora_pair):
    first = team.mirror("team", "spare")
    assert all(not one.unchanged and one.sent for one in first.versions)
    again = team.mirror("team", "spare")
    assert all(one.unchanged and not one.sent for one in again.versions)
    assert again.aliases == ()
    push(team, lora_pair[0], tmp_path, 4)
    sent = [one for one in team.mirror("team", "spare").versions if not one.unchanged]
    assert [(one.source, one.number, one.became) for one in sent] == [
        (f"file://{tmp_path}/team/naval", 4, 4)
    ]


def test_one_adapter_or_one_version_is_mirrored_alone(team, tmp_path):
    team.mirror("team:naval@3", "spare")
    assert [
        placed.number
        for placed in team.places.root("spare").names()
        and team.places.open(f"file://{tmp_path}/spare/naval").list()
    ] == [3]
    team.mirror("team:naval", "spare:sailor")
    assert sorted(team.places.root("spare").names()) == ["naval", "sailor"]
    report = team.mirror(f"file://{tmp_path}/team/medic", f"file://{tmp_path}/elsewhere")
    assert report.versions[0].target == f"file://{tmp_path}/elsewhere"
    assert (
        team.pull(f"file://{tmp_path}/elsewhere", name="back").version.digest
        == team.version("medic").digest
    )


def test_a_number_that_is_taken_there_becomes_the_next(team, tmp_path, lora_pair):
    source = tiny.edit_config(Path(shutil.copytree(lora_pair[0], tmp_path / "own")), lora_alpha=99)
    team.add(source, "own")
    team.push("own", f"file://{tmp_path}/spare/naval")
    report = team.mirror("team:naval", "spare")
    assert [(one.number, one.became) for one in report.versions] == [(1, 2), (2, 3), (3, 4)]
    assert dict(team.places.open(f"file://{tmp_path}/spare/naval").aliases()) == {"prod": 3}


def test_a_dry_run_shows_the_numbers_to_come_and_sends_nothing(team, tmp_path):
    planned = team.mirror("team", "spare", dry_run=True)
    assert not (tmp_path / "spare").exists()
    done = team.mirror("team", "spare")
    assert [(one.source, one.number, one.became) for one in planned.versions] == [
        (one.source, one.number, one.became) for one in done.versions
    ]


def test_a_version_that_rotted_is_not_copied_and_the_others_are(team, tmp_path):
    weights = tmp_path / "team" / "naval" / "v2" / "adapter_config.json"
    weights.write_bytes(b"x" * weights.stat().st_size)
    (tmp_path / "team" / "medic" / "v1" / "adaptkit.json").write_text("{}")
    with pytest.raises(StorageError) as failure:
        team.mirror("team", "spare")
    url = f"file://{tmp_path}/team"
    assert failure.value.what == "2 of 4 could not be mirrored"
    assert f"'adapter_config.json' of {url}/naval@2 is corrupt" in failure.value.why
    assert f"adaptkit.json of {url}/medic@1 cannot be trusted" in failure.value.why
    assert failure.value.fix == "the rest is there; the same command goes on"
    assert sorted(path.name for path in (tmp_path / "spare" / "naval").glob("v*")) == ["v1", "v3"]
    assert not (tmp_path / "spare" / "medic").exists()


@pytest.mark.parametrize("jobs", [1, 4])
def test_an_adapter_that_cannot_be_read_stops_no_other(jobs, team, tmp_path):
    folder = tmp_path / "team"
    broken, empty = folder / "aaa", folder / "aab"
    shutil.copytree(folder / "naval", broken)
    (broken / "refs.json").write_text('{"prod": Infinity}')
    empty.mkdir()
    with pytest.raises(StorageError, match=r"could not be mirrored: .*refs.json of .*aaa"):
        team.mirror("team", (tmp_path / "to").as_uri(), jobs=jobs)
    assert (tmp_path / "to" / "naval" / "v1" / "adaptkit.json").is_file()
    assert (tmp_path / "to" / "aaa" / "v1" / "adaptkit.json").is_file()


def test_a_mirror_that_was_killed_goes_on(team, tmp_path):
    def work():
        with Workspace.open(team.home.path, notify=lambda _: None) as ws:
            for number in range(10**6):
                ws.mirror("team", "spare")
                (tmp_path / "spare").rename(tmp_path / f"made-before-{number}")

    for delay in (0.02, 0.05, 0.1):
        for old in (tmp_path / "spare", *tmp_path.glob("made-before-*")):
            shutil.rmtree(old, ignore_errors=True)
        assert killed(work, delay)
        team.mirror("team", "spare")
        left = {
            path: data for path, data in files(tmp_path / "spare").items() if "/." not in path
        }  # temps
        assert left == files(tmp_path / "team")


def test_what_a_plugin_refuses_to_publish_is_not_mirrored(team, tmp_path, monkeypatch):
    from adaptkit.extend.review import Objection

    seen = []

    def review(action):
        seen.append((action.version.ref, action.place))
        return (("licence", Objection("no licence")),) if action.version.name == "medic" else ()

    monkeypatch.setattr(team.plugins, "review", review)
    with pytest.raises(
        StorageError,
        match="1 of 4 could not be mirrored: the push of naval@1 was refused by a plugin: licence: no licence",
    ):
        team.mirror("team", "spare")
    assert ("medic@1", f"file://{tmp_path}/spare/medic") in seen
    assert team.places.root("spare").names() == ("naval",)


@pytest.mark.parametrize(
    ("source", "target", "error", "message"),
    [
        ("nowhere", "spare", NotFound, "no remote called 'nowhere'"),
        ("team", "nowhere", NotFound, "no remote called 'nowhere'"),
        ("spare", "team", StorageError, "there is nothing to mirror in file://"),
        ("team:nobody", "spare", NotFound, "no version in file://"),
        ("team", "team", Refused, "both are one place"),
        ("team", "spare:naval", Refused, "that is one adapter's place"),
        ("team:naval", "file:///tmp/x@3", BadReference, "the place gives the number"),
    ],
)
def test_what_cannot_be_mirrored_is_refused_with_its_reason(team, source, target, error, message):
    with pytest.raises(error) as caught:
        team.mirror(source, target)
    assert message in str(caught.value)


# ---------------------------------------------------------------- check


def test_a_check_says_what_holds_and_leaves_nothing(team, tmp_path):
    before = files(tmp_path / "team")
    for where in ("team", "team:naval", f"file://{tmp_path}/team"):
        probed = team.check_remote(where)
        assert (probed.promise.create_only, probed.promise.compare_and_swap) == (True, True)
        assert "a version appears by one rename" in probed.promise.note
    assert files(tmp_path / "team") == before
    team.set_remote("new", f"file://{tmp_path}/not/yet")
    (tmp_path / "not").mkdir()
    team.check_remote("new")
    assert not (tmp_path / "not" / "yet").exists()


def test_a_check_of_a_read_only_remote_is_an_error_message(team, tmp_path):
    (tmp_path / "a-file").write_text("")
    team.set_remote("bad", f"file://{tmp_path}/a-file")
    with pytest.raises(StorageError, match="cannot write file://"):
        team.check_remote("bad")
    with pytest.raises(NotFound, match="no remote called 'nowhere'"):
        team.check_remote("nowhere")


def test_the_commands_say_what_they_did(team, tmp_path):
    def run(*arguments, code=0):
        done = subprocess.run(
            [ADAPTKIT, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"ADAPTKIT_HOME": str(team.home.path)},
        )
        assert done.returncode == code, done.stderr
        return done

    checked = run("remote", "check", "team").stdout
    assert f"file://{tmp_path}/team: written, read back, deleted" in checked
    assert "aliases move by compare-and-swap  yes" in checked
    assert json.loads(run("remote", "check", "team", "--json").stdout)["create_only"] is True
    assert "@3" in run("mirror", "team", "spare").stdout
    assert "nothing to send: all 4 versions are there" in run("mirror", "team", "spare").stderr
    assert {
        one["unchanged"]
        for one in json.loads(run("mirror", "team", "spare", "--json").stdout)["versions"]
    } == {True}


# ---------------------------------------------------------------- push to several, add of a URL


def test_a_push_to_several_places_is_one_result_and_show_lists_them(team, tmp_path):
    done = team.push_to_all("naval@prod", ["team", "spare", f"file://{tmp_path}/third"])
    assert [(one.receipt.number, one.receipt.unchanged) for one in done] == [
        (2, True),
        (2, False),
        (2, False),
    ]
    assert {p.place for p in team.show("naval@2").placements} == {
        f"file://{tmp_path}/{name}" for name in ("team/naval", "spare/naval", "third")
    }
    for place in ("spare/naval", "third"):
        assert dict(team.places.open(f"file://{tmp_path}/{place}").aliases()) == {"prod": 2}


def test_of_several_places_all_are_known_before_anything_is_sent(team, tmp_path):
    with pytest.raises(NotFound, match="no remote called 'nowhere'"):
        team.push_to_all("medic", ["spare", "nowhere"])
    assert not (tmp_path / "spare").exists()


def test_a_place_that_fails_stops_no_other(team, tmp_path):
    (tmp_path / "a-file").write_text("")
    with pytest.raises(StorageError) as failure:
        team.push_to_all("medic", [f"file://{tmp_path}/a-file", "spare"])
    assert failure.value.what == "medic@1 could not be pushed to 1 of 2 places"
    assert (
        f"cannot write file://{tmp_path}/a-file" in failure.value.why
        or "cannot read file://" in failure.value.why
    )
    assert (
        failure.value.fix
        == f"it is in file://{tmp_path}/spare/medic@1; the same command sends only what is missing"
    )


def test_adding_a_url_pulls_it_and_what_only_fits_a_folder_is_refused(team, tmp_path, monkeypatch):
    url = f"file://{tmp_path}/team/naval"
    with Workspace.init(tmp_path / "other", notify=lambda _: None) as other:
        other.set_remote("team", f"file://{tmp_path}/team")
        added = other.add(f"{url}@prod", alias="good")
        assert (added.version.ref, added.version.aliases, added.version.origin) == (
            "naval@2",
            ("good",),
            "pulled",
        )
        assert other.add("team:medic", "doctor").version.ref == "doctor@1"
        assert other.add(url, "naval").version.number == 3
        with pytest.raises(
            BadReference, match=f"cannot add {url} with another base: what is pulled says itself"
        ):
            other.add(url, "naval", base="somewhere")
        with pytest.raises(
            BadReference, match="neither a folder nor a file says what it is called"
        ):
            other.add(tmp_path / "made-1")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "x:y").symlink_to(tmp_path / "made-1")  # a folder comes before a remote
        assert other.add("x:y", "here").version.origin == "added"
