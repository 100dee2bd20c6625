"""Projects: what a lock pins stays pinned, whatever happens to tags, numbers and files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Barrier

import pytest
import tiny
from concurrency import killed

from adaptkit import Workspace
from adaptkit.errors import AdaptkitError, BadProject, NotFound, Refused, StoreError
from adaptkit.project.requirements import LOCK, PROJECT

ADAPTKIT = Path(sys.executable).with_name("adaptkit")


class Team:
    """A folder that a team shares, a project that takes adapters from it, and machines that know nothing yet."""

    def __init__(self, ws, folder, adapter):
        self.ws, self.folder, self.adapter = ws, folder, adapter
        self.url = f"file://{folder}/team"
        self.project = folder / "project"
        self.project.mkdir()
        self.made = 0

    def push(self, name="naval", alias=None):
        """Another version, in the registry and in the place; its digest."""
        self.made += 1
        source = shutil.copytree(self.adapter, self.folder / f"made-{self.made}")
        added = self.ws.add(tiny.edit_config(source, lora_alpha=self.made), name, alias=alias)
        self.ws.push(f"{name}@{alias}" if alias else name, f"{self.url}/{name}")
        return added.version.digest

    def ask(self, **adapters):
        lines = "".join(f"{json.dumps(name)} = {line}\n" for name, line in adapters.items())
        (self.project / PROJECT).write_text(f'[remotes]\nteam = "{self.url}"\n[adapters]\n{lines}')

    def machine(self, name="ci"):
        return Workspace.init(self.folder / name, notify=lambda _: None)

    @property
    def lock(self):
        return self.project / LOCK

    def pinned(self, name="naval"):
        return self.ws.lock(self.project, dry_run=True).entries[name]


@pytest.fixture
def team(workspace, tmp_path, lora_pair):
    return Team(workspace, tmp_path, lora_pair[0])


def test_every_way_of_asking_comes_to_the_version_it_means(team):
    digests = [team.push(alias="prod" if number == 2 else None) for number in (1, 2, 3)]
    team.ask(
        one=f'"{team.url}/naval@1"',
        alias='"team:naval@prod"',
        newest='"team:naval"',
        upto='{from = "team:naval", version = ">=1,<3"}',
        short='"team:naval@>=2"',
        known='"naval@prod"',
        digest=f'"{digests[0]}"',
        naval='">=2,!=3"',
    )
    entries = team.ws.lock(team.project).entries
    assert {name: digests.index(entry.digest) + 1 for name, entry in entries.items()} == {
        "one": 1,
        "alias": 2,
        "newest": 3,
        "upto": 2,
        "short": 3,
        "known": 2,
        "digest": 1,
        "naval": 2,
    }
    assert entries["known"].place == f"{team.url}/naval"
    assert entries["known"].adapter == "naval"
    assert entries["one"].method == "lora"


def test_a_lock_pins_digest_place_and_base(team, tiny_llama):
    team.adapter = shutil.copytree(team.adapter, team.folder / "with-base")
    team.ws.add(team.adapter, "naval", base=str(tiny_llama))
    team.ws.push("naval", f"{team.url}/naval")
    team.ask(naval='"team:naval"')
    entry = team.ws.lock(team.project).entries["naval"]
    assert (entry.place, entry.number) == (f"{team.url}/naval", 1)
    assert {level.kind for level in entry.base.levels} == {"as1", "fs1", "tm1"}
    assert entry.base.level("tm1").value in team.lock.read_text()


def test_the_same_project_locks_to_the_same_bytes_in_any_order(team):
    team.push("naval")
    team.push("medic")
    team.ask(naval='"team:naval"', medic='"team:medic"')
    team.ws.lock(team.project)
    first = team.lock.read_bytes()
    team.lock.unlink()
    team.ask(medic='"team:medic"', naval='"team:naval"')
    team.ws.lock(team.project)
    assert team.lock.read_bytes() == first
    before = team.lock.stat().st_ino
    assert team.ws.lock(team.project).changes == ()
    assert team.lock.stat().st_ino == before


def test_what_is_locked_stays_until_it_is_updated_by_name(team):
    old = {name: team.push(name) for name in ("naval", "medic")}
    team.ask(naval='"team:naval"', medic='"team:medic"')
    team.ws.lock(team.project)
    new = {name: team.push(name) for name in ("naval", "medic")}
    assert team.ws.lock(team.project).changes == ()
    report = team.ws.lock(team.project, update=["naval"])
    assert [(change.name, change.old.digest, change.new.digest) for change in report.changes] == [
        ("naval", old["naval"], new["naval"])
    ]
    assert report.entries["medic"].digest == old["medic"]
    assert team.ws.lock(team.project, update_all=True).entries["medic"].digest == new["medic"]
    with pytest.raises(NotFound, match=f"no adapter in {PROJECT} called 'nawal': known are naval"):
        team.ws.lock(team.project, update=["nawal"])


def test_a_dry_run_writes_nothing(team):
    team.push()
    team.ask(naval='"team:naval"')
    assert [change.name for change in team.ws.lock(team.project, dry_run=True).changes] == ["naval"]
    assert not team.lock.exists()


def test_sync_brings_a_bare_machine_to_the_lock_and_registers_under_the_same_number(team):
    team.push()
    digest = team.push()
    team.push()
    team.ask(naval='"team:naval@2"', sailor='"team:naval@2"')
    team.ws.lock(team.project)
    with team.machine() as ci:
        ready = ci.sync(team.project, frozen=True)
        assert [(r.locked.name, r.version.ref, r.fetched) for r in ready] == [
            ("naval", "naval@2", True),
            ("sailor", "sailor@2", True),
        ]
        assert {r.version.digest for r in ready} == {digest}
        assert ready[0].path.joinpath("adapter_config.json").is_file()
        assert ci.verify().damaged == ()
        assert [p.place for p in ci.show("naval").placements] == [f"{team.url}/naval"]
        shutil.rmtree(team.folder / "team")  # nothing more is needed of it
        assert [r.fetched for r in ci.sync(team.project, frozen=True)] == [False, False]
        assert len(ci.list(every=True)) == 2


def test_what_rotted_here_is_fetched_again(team):
    digest = team.push()
    team.ask(naval='"team:naval"')
    team.ws.lock(team.project)
    with team.machine() as ci:
        ci.sync(team.project)
        blob = ci.store.blob(
            next(
                f.sha256 for f in ci.store.manifest(digest).files if f.path.endswith("safetensors")
            )
        )
        blob.chmod(0o644)
        blob.write_bytes(b"x" * blob.stat().st_size)
        assert [r.fetched for r in ci.sync(team.project, frozen=True)] == [True]
        assert ci.verify().damaged == ()


def test_sync_locks_what_is_missing_and_frozen_refuses_it_and_touches_no_lock(team):
    team.push()
    team.ask(naval='"team:naval"')
    with team.machine() as ci:
        with pytest.raises(
            Refused, match=rf"there is no .*{LOCK}: 'naval' \(line 4 of {PROJECT}\) is not locked"
        ):
            ci.sync(team.project, frozen=True)
        assert not team.lock.exists()
        ci.sync(team.project)
        before = team.lock.read_bytes()
        team.push("medic")
        team.ask(naval='"team:naval@1"', medic='"team:medic"')
        with pytest.raises(Refused) as refusal:
            ci.sync(team.project, frozen=True)
        assert refusal.value.why == (
            f"'medic' (line 5 of {PROJECT}) is not locked; "
            f"'naval' is team:naval@1 (line 4 of {PROJECT}) and was locked as team:naval"
        )
        assert refusal.value.fix == f"adaptkit lock, and put {LOCK} under version control"
        team.ask()
        with pytest.raises(Refused, match=f"'naval' is locked and no longer in {PROJECT}"):
            ci.sync(team.project, frozen=True)
        assert team.lock.read_bytes() == before
        assert ci.sync(team.project) == ()
        assert b"naval" not in team.lock.read_bytes()


def test_a_version_that_was_rewritten_after_the_lock_is_refused(team):
    digest = team.push()
    team.ask(naval='"team:naval@1"')
    team.ws.lock(team.project)
    shutil.rmtree(team.folder / "team" / "naval")
    other = team.push("other")
    (team.folder / "team" / "naval").mkdir()
    shutil.copytree(team.folder / "team" / "other" / "v1", team.folder / "team" / "naval" / "v1")
    with team.machine() as ci, pytest.raises(Refused) as refusal:
        ci.sync(team.project, frozen=True)
    assert refusal.value.what == f"{team.url}/naval@1 is not what 'naval' was locked to"
    assert refusal.value.why == f"it holds {other[:19]}… now, and the lock pins {digest[:19]}…"
    assert "adaptkit lock --update naval" in refusal.value.fix
    assert ci.list() == ()
    with pytest.raises(Refused, match="adaptkit lock --update naval --force"):
        team.ws.lock(team.project, update=["naval"])
    assert team.ws.lock(team.project, update=["naval"], force=True).entries["naval"].digest == other


def test_a_version_that_is_gone_is_refused_and_one_that_has_another_number_now_will_do(team):
    digest = team.push()
    team.ask(naval='"team:naval@1"')
    team.ws.lock(team.project)
    place = team.folder / "team" / "naval"
    text = json.loads((place / "v1" / "adaptkit.json").read_text()) | {"number": 5}
    (place / "v1").rename(place / "v5")
    (place / "v5" / "adaptkit.json").write_text(json.dumps(text))
    with team.machine() as ci:
        assert ci.sync(team.project, frozen=True)[0].version.digest == digest
    shutil.rmtree(place)
    with (
        team.machine("other") as ci,
        pytest.raises(Refused, match="that version is gone or cannot be read"),
    ):
        ci.sync(team.project, frozen=True)


def test_a_moved_alias_changes_nothing_until_the_lock_is_updated(team):
    digest = team.push(alias="prod")
    team.ask(naval='"team:naval@prod"')
    team.ws.lock(team.project)
    moved = team.push(alias="prod")
    with team.machine() as ci:
        assert ci.sync(team.project)[0].version.digest == digest
        (row,) = ci.outdated(team.project)
        assert (row.locked.digest, row.wanted.digest, row.latest.digest) == (digest, moved, moved)


def test_a_base_that_the_place_declares_differently_now_is_refused(team, tiny_llama):
    team.ws.add(team.adapter, "naval", base=str(tiny_llama))
    team.ws.push("naval", f"{team.url}/naval")
    team.ask(naval='"team:naval"')
    team.ws.lock(team.project)
    manifest = team.folder / "team" / "naval" / "v1" / "adaptkit.json"
    placed = json.loads(manifest.read_text())
    placed["base"]["levels"]["tm1"]["value"] = "tm1:" + "0" * 64
    manifest.write_text(json.dumps(placed))
    with (
        team.machine() as ci,
        pytest.raises(
            Refused, match="is for another base than when 'naval' was locked: tm1:000000"
        ),
    ):
        ci.sync(team.project, frozen=True)


def test_one_that_fails_leaves_the_others_here_and_all_failures_are_reported(team):
    team.push("naval")
    for name in ("medic", "polite"):
        team.push(name)
    team.ask(naval='"team:naval"', medic='"team:medic"', polite='"team:polite"')
    team.ws.lock(team.project)
    shutil.rmtree(team.folder / "team" / "medic")
    with team.machine() as ci:
        with pytest.raises(Refused, match="'medic'"):
            ci.sync(team.project, frozen=True)
        assert [v.name for v in ci.list()] == ["naval", "polite"]
    shutil.rmtree(team.folder / "team" / "polite")
    with team.machine("other") as ci:
        with pytest.raises(StoreError) as failure:
            ci.sync(team.project, frozen=True)
        assert failure.value.what == "2 of 3 adapters could not be brought here"
        assert "medic: " in failure.value.why
        assert "polite: " in failure.value.why
        assert "the others are here" in failure.value.fix


def test_as_many_are_fetched_at_the_same_time_as_was_asked_for(team, monkeypatch):
    from adaptkit_plugins.storage.file import FileBackend

    names = ["a", "b", "c"]
    for name in names:
        team.push(name)
    team.ask(**{name: f'"team:{name}"' for name in names})
    team.ws.lock(team.project)
    together, pull = Barrier(len(names)), FileBackend.pull

    def waiting(self, *arguments):
        together.wait(60)  # nobody goes on before all are here
        pull(self, *arguments)

    monkeypatch.setattr(FileBackend, "pull", waiting)
    with team.machine() as ci:
        assert len(ci.sync(team.project, frozen=True, jobs=len(names))) == len(names)


def test_a_sync_that_was_killed_leaves_nothing_half_visible_and_goes_on(team):
    names = ["a", "b", "c", "d"]
    for name in names:
        team.push(name)
    team.ask(**{name: f'"team:{name}"' for name in names})
    team.ws.lock(team.project)

    def work(home):
        for number in range(10**6):
            with Workspace.init(home / str(number), notify=lambda _: None) as ci:
                ci.sync(team.project, frozen=True, jobs=2)

    for round_, delay in enumerate((0.1, 0.2, 0.35)):
        home = team.folder / f"killed-{round_}"
        home.mkdir()
        assert killed(lambda home=home: work(home), delay)
        for number in sorted(home.iterdir()):
            with Workspace.init(number, notify=lambda _: None) as ci:
                assert ci.verify().damaged == ()
                assert len(ci.sync(team.project, frozen=True)) == len(names)
                assert [v.ref for v in ci.list(every=True)] == [f"{name}@1" for name in names]


def test_an_adapter_that_was_never_pushed_is_locked_with_a_warning_and_synced_where_it_is(team):
    team.ws.add(team.adapter, "naval")
    team.ask(naval='"naval@1"')
    assert team.ws.sync(team.project)[0].fetched is False
    assert any(
        "naval@1 was never pushed: only this registry can sync 'naval'" in text
        for text in team.ws.noticed
    )
    with team.machine() as ci, pytest.raises(StoreError):
        ci.sync(team.project, frozen=True)


def test_outdated_shows_what_would_be_taken_the_highest_and_what_cannot_be_looked_up(team):
    team.push()
    team.ask(naval='"team:naval@1"', upto='"team:naval@<3"', gone='"team:naval"')
    team.ws.lock(team.project)
    assert all(row.current for row in team.ws.outdated(team.project))
    for _ in range(2):
        team.push()
    team.ask(naval='"team:naval@1"', upto='"team:naval@<3"', gone='"team:nobody"')
    rows = {row.name: row for row in team.ws.outdated(team.project)}
    assert [rows["naval"].wanted.number, rows["naval"].latest.number] == [1, 3]
    assert [rows["upto"].locked.number, rows["upto"].wanted.number, rows["upto"].latest.number] == [
        1,
        2,
        3,
    ]
    assert rows["gone"].note.startswith(f"no version in {team.url}/nobody")
    done = subprocess.run(
        [ADAPTKIT, "outdated", "--json"],
        cwd=team.project,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ADAPTKIT_HOME": str(team.ws.home.path)},
    )
    assert done.returncode == 1
    assert "not everything could be looked up" in done.stderr
    assert [row["current"] for row in json.loads(done.stdout)] == [False, False, False]


def test_processes_that_lock_at_once_lose_nothing(team):
    names = [f"skill-{number}" for number in range(4)]
    for name in names:
        team.push(name)
    team.ask(**{name: f'"team:{name}"' for name in names})
    team.ws.lock(team.project)
    new = {name: team.push(name) for name in names}
    environment = os.environ | {"ADAPTKIT_HOME": str(team.ws.home.path)}
    running = [
        subprocess.Popen(
            [ADAPTKIT, "lock", "--update", name],
            cwd=team.project,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in names
    ]
    assert [process.wait() for process in running] == [0] * len(names)
    assert {name: entry.digest for name, entry in team.ws.lock(team.project).entries.items()} == new


@pytest.mark.parametrize("frozen", [True, False])
def test_a_lock_that_a_merge_or_a_hand_has_changed_is_reported_with_the_line(team, frozen):
    for name in ("medic", "naval"):
        team.push(name)
    team.ask(naval='"team:naval"', medic='"team:medic"')
    team.ws.lock(team.project)
    text = team.lock.read_text()
    lines = text.split("\n")
    naval = lines.index("[adapters.naval]") + 1
    conflicted = "\n".join(
        [*lines[: naval - 1], "<<<<<<< HEAD", *lines[naval - 1 :], ">>>>>>> other"]
    )
    for changed, message in [
        (conflicted, f"{LOCK}, line {naval}: a merge conflict begins here"),
        (
            text.replace("number = 1", "number = 2"),
            f"{LOCK}, line 4: the entry 'medic' was changed by hand",
        ),
        (text + text[text.index("[adapters.naval]") :], "twice"),
        (text.replace("# Written", "# Rewritten"), f"{LOCK}, line 1: it was changed by hand"),
    ]:
        team.lock.write_text(changed)
        with pytest.raises(BadProject) as error:
            team.ws.sync(team.project, frozen=frozen)
        assert message in str(error.value)
        assert "git checkout " in error.value.fix
        assert team.lock.read_text() == changed


def test_two_branches_that_lock_different_adapters_merge_in_git_without_a_conflict(team):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=ada", "-c", "user.email=ada@example.org", *arguments],
            cwd=team.project,
            check=True,
            capture_output=True,
        )

    for name in ("a", "m", "z"):
        team.push(name)
    team.ask(a='"team:a"', m='"team:m"', z='"team:z"')
    team.ws.lock(team.project)
    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "locked")
    for branch in ("a", "z"):
        team.push(branch)
        git("checkout", "-b", f"update-{branch}", "main")
        team.ws.lock(team.project, update=[branch])
        git("commit", "-am", branch)
    git("merge", "update-a")
    assert {name: entry.number for name, entry in team.ws.lock(team.project).entries.items()} == {
        "a": 2,
        "m": 1,
        "z": 2,
    }


def test_the_commands_find_the_project_upward_and_say_what_they_did(team, tmp_path):
    digest = team.push()
    team.ask(naval='"team:naval"')
    (team.project / "deep" / "er").mkdir(parents=True)

    def run(*arguments, code=0):
        done = subprocess.run(
            [ADAPTKIT, *arguments],
            cwd=team.project / "deep" / "er",
            capture_output=True,
            text=True,
            env=os.environ | {"ADAPTKIT_HOME": str(tmp_path / "bare")},
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    assert f"there is no {team.lock}" in run("sync", "--frozen", code=1).stderr
    locked = run("lock")
    assert digest[:19] in locked.stdout
    assert "adaptkit.lock is written: adaptkit sync" in locked.stderr
    assert "fetched" in run("sync", "--frozen").stdout
    ready = json.loads(run("sync", "--frozen", "--json").stdout)
    assert (ready[0]["ref"], ready[0]["digest"], ready[0]["fetched"]) == ("naval@1", digest, False)
    assert Path(ready[0]["path"]).joinpath("adapter_model.safetensors").is_file()
    assert "everything is up to date" in run("outdated").stderr
    assert run("lock").stdout == "unchanged\n"


def test_outside_of_any_project_the_error_shows_how_to_start_one(workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdaptkitError) as error:
        workspace.sync()
    assert f"there is no {PROJECT} in {tmp_path} or above" in error.value.what
    assert "[adapters]" in error.value.fix
    with pytest.raises(BadProject, match="there is no"):
        workspace.lock(tmp_path / "nowhere")
