"""A place that others write to: what it says of names, numbers and aliases is checked, and stops nothing else."""

from __future__ import annotations

import json
import shutil

import pytest
from artifacts import bundle
from command_line import Shell

from adaptkit.errors import BadProject, Corrupt, StorageError
from adaptkit.extend.versioned_storage import manifest_bytes
from adaptkit.project.lockfile import Locked, lock_bytes, read_lock
from adaptkit.remotes import foreign, transfer


@pytest.fixture
def put(workspace, tmp_path):
    """`put(NAME, CONTENT, number=…)`: another version in the folder `team`, a remote of that name."""
    workspace.set_remote("team", (tmp_path / "team").as_uri())

    def push(name, content, number=1, remote="team"):
        place = workspace.places.open(f"{(tmp_path / remote).as_uri()}/{name}")
        folder = tmp_path / f"{remote}-{name}-{content}".replace("/", "-")
        made = bundle(folder, {"adapter_config.json": b"{}", "w": content.encode()}, number)
        transfer.push(place, made)
        return place

    return push


def rewritten(tmp_path, place, number, **changes):
    file = tmp_path / "team" / place / f"v{number}" / "adaptkit.json"
    file.chmod(0o644)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return file


def test_a_pull_is_called_as_its_place_is_and_not_as_it_calls_itself(workspace, put, tmp_path):
    put("mallory", "evil")
    rewritten(tmp_path, "mallory", 1, name="prodmodel")
    assert workspace.pull("team:mallory").version.ref == "mallory@1"
    assert workspace.pull((tmp_path / "team" / "mallory").as_uri()).version.name == "mallory"
    assert {v.name for v in workspace.list()} == {"mallory"}


def test_a_name_inside_that_could_not_be_typed_is_refused(workspace, put, tmp_path):
    place = put("naval", "one")
    rewritten(tmp_path, "naval", 1, name="../../evil\x1b[31m")
    with pytest.raises(Corrupt, match="is not a name"):
        workspace.pull("team:naval")
    assert foreign.versions_of(place) == ()
    assert "is not a name" in foreign.examined(place)[1][0]
    with pytest.raises(StorageError, match="is not a name"):
        workspace.rebuild("team")
    assert workspace.list() == ()


def test_one_bad_version_never_stops_the_others_of_a_remote(workspace, put, tmp_path):
    put("naval", "one")
    put("naval", "two", 2)
    put("medic", "other")
    rewritten(tmp_path, "naval", 1, message=7)
    with pytest.raises(StorageError, match="1 of 3 in .* could not be registered") as caught:
        workspace.rebuild("team")
    assert "in 'message': Expected `str`, got `int`" in caught.value.why
    assert {v.ref for v in workspace.list(every=True)} == {"naval@2", "medic@1"}


def test_a_rebuild_keeps_places_apart_and_renumbers_nothing(workspace, put, tmp_path):
    put("naval", "a")
    put("naval", "b", 2)
    put("naval", "stranger", remote="stick")
    workspace.set_remote("stick", (tmp_path / "stick").as_uri())
    workspace.rebuild("team")
    before = {v.ref: v.digest for v in workspace.list(every=True)}
    workspace.rebuild("stick")
    after = {v.ref: v.digest for v in workspace.list(every=True)}
    assert set(after) == {"naval@1", "naval@2", "stick/naval@1"}
    assert {ref: after[ref] for ref in before} == before
    assert any(
        "is registered as stick/naval: naval@1 is another artifact here" in text
        for text in workspace.noticed
    )
    workspace.rebuild("stick")
    assert {v.ref for v in workspace.list(every=True)} == set(after)


def test_aliases_that_could_not_be_typed_are_left_out_and_named(workspace, put, tmp_path):
    place = put("naval", "one")
    hostile = {"../../vic/manifests/prod": 1, "3": 1, "v9": 1, "latest": 1, "a b": 1, "far": 10**9}
    (tmp_path / "team" / "naval" / "refs.json").write_text(json.dumps(hostile | {"prod": 1}))
    aliases, remarks = foreign.aliases_of(place)
    assert dict(aliases) == {"prod": 1}
    assert len(remarks) == len(hostile)
    with pytest.raises(StorageError, match="cannot be an alias"):
        workspace.rebuild("team")
    assert workspace.registry.aliases("naval") == {"prod": 1}
    with pytest.raises(StorageError, match="cannot be an alias"):
        workspace.mirror("team", (tmp_path / "copy").as_uri())
    copied = json.loads((tmp_path / "copy" / "naval" / "refs.json").read_text())
    assert copied == {"prod": 1}


def test_a_folder_that_is_no_name_is_left_out_and_named(workspace, put, tmp_path):
    put("naval", "one")
    (tmp_path / "team" / "naval").rename(tmp_path / "team" / "na val")
    put("medic", "other")
    with pytest.raises(StorageError, match="is not a name"):
        workspace.rebuild("team")
    assert [v.ref for v in workspace.list()] == ["medic@1"]


def test_a_number_far_away_does_not_use_up_those_that_are_left(workspace, put):
    put("naval", "one", 999_999_998)
    assert workspace.pull("team:naval").version.ref == "naval@1"


def test_a_lock_may_not_name_what_could_not_be_typed(tmp_path):
    entry = Locked("naval", "team:naval", "../../evil", "sha256:" + "0" * 64, "lora", number=1)
    (tmp_path / "adaptkit.lock").write_bytes(lock_bytes({"naval": entry}))
    with pytest.raises(BadProject, match=r"'\.\./\.\./evil' is not a name"):
        read_lock(tmp_path / "adaptkit.lock")


def test_who_pulled_and_who_made_it_are_two_fields(put, tmp_path):
    put("naval", "one")
    shell = Shell(tmp_path)
    shell.run("remote", "add", "crew", (tmp_path / "team").as_uri())
    shell.run("pull", "crew:naval", ADAPTKIT_AUTHOR="bob")
    pulled = next(e for e in shell.json("log", "--events") if e["verb"] == "pulled")
    assert (pulled["actor"], pulled["author"]) == ("bob", "ada")
    line = next(
        line for line in shell.run("log", "--events").stdout.splitlines() if "\tpulled\t" in line
    )
    assert line.split("\t")[1:4] == ["bob", "pulled", "naval@1"]
    assert "by ada" in line


def test_the_manifest_that_was_pushed_has_no_more_than_a_place_takes(put):
    placed = put("naval", "one").version()
    assert json.loads(manifest_bytes(placed))["number"] == 1


def test_what_a_converted_file_brought_along_may_come_from_a_place(workspace, put, tmp_path):
    put("naval", "one")
    origin = {
        "dialect": "kohya",
        "path": "naval.safetensors",
        "sha256": "1" * 64,
        "notes": ["its names were guessed"],
        "metadata": {"ss_network_dim": "8"},
    }
    rewritten(tmp_path, "naval", 1, facts={"converted_from": origin})
    pulled = workspace.pull("team:naval").version
    assert workspace.registry.manifest(pulled.digest).facts["converted_from"] == origin


def test_an_alias_of_a_missing_version_is_named_by_rebuild_and_mirror(workspace, put, tmp_path):
    place = put("naval", "one")
    put("naval", "two", 2)
    (tmp_path / "team" / "naval" / "refs.json").write_text('{"canary": 1, "old": 9, "prod": 2}')
    shutil.rmtree(tmp_path / "team" / "naval" / "v2")
    left_out = (
        f"the alias {{}} of {place.url} was left out: it points at version {{}}, "
        "which is missing or cannot be trusted"
    )
    with pytest.raises(StorageError) as caught:
        workspace.mirror("team:naval", (tmp_path / "stick" / "naval").as_uri())
    assert caught.value.why == f"{left_out.format('old', 9)}; {left_out.format('prod', 2)}"
    there = workspace.places.open((tmp_path / "stick" / "naval").as_uri())
    assert dict(there.aliases()) == {"canary": 1}
    one = workspace.mirror("team:naval@1", (tmp_path / "one" / "naval").as_uri())
    assert one.failures == ()  # of one version that was asked for, other aliases are not expected
    with pytest.raises(StorageError) as caught:
        workspace.rebuild("team")
    assert left_out.format("prod", 2) in caught.value.why
    assert workspace.registry.aliases("naval") == {"canary": 1}


def test_a_place_with_very_many_aliases_and_folders_costs_neither_hours_nor_screens(
    workspace, put, tmp_path
):
    put("naval", "one")
    many = {f"a{at:05}": 1 for at in range(20_000)} | {"prod": 1}
    (tmp_path / "team" / "naval" / "refs.json").write_text(json.dumps(many))
    place = workspace.places.open(f"{(tmp_path / 'team').as_uri()}/naval")
    good, remarks = foreign.aliases_of(place)
    assert len(good) == foreign.MOST_ALIASES == 200
    assert remarks == (
        f"19,801 more aliases of {place.url} were left out: only 200 of a place are read",
    )
    assert foreign.alias_in(place, "prod") == 1
    with pytest.raises(StorageError, match="19,801 more aliases"):
        workspace.rebuild("team")
    assert len(workspace.registry.aliases("naval")) == 200
    for at in range(50):
        (tmp_path / "team" / f"{at} \x1b[31m" / "v1").mkdir(parents=True)
        (tmp_path / "team" / f"{at} \x1b[31m" / "v1" / "adaptkit.json").touch()
    names, remarks = foreign.names_in(workspace.places.root("team"))
    assert names == ("naval",)
    assert remarks[20:] == (f"30 more folders of {(tmp_path / 'team').as_uri()} were left out",)


SECRET = "hf_" + "SecretToken0123456789"


@pytest.mark.parametrize(
    "url",
    [
        f"hf:///{SECRET}@org",
        f"hf://{SECRET}/naval",
        "oci://127.0.0.1:1/a/b?token=SecretToken",
        "oci://127.0.0.1:1/a/b#SecretToken",
        "file://ada:SecretToken@host/x",
        "s3://ada:SecretToken@bucket/x",
        "gs://bucket/x?sig=SecretToken",
        "hf://fleet/naval?token=SecretToken",
        f"hf://fleet/naval@{SECRET}",
        f"file:///mnt/{SECRET}/naval",
    ],
)
def test_a_url_that_holds_a_secret_is_refused_and_not_repeated(url, tmp_path):
    shell = Shell(tmp_path)
    scheme = url.partition(":")[0]
    (tmp_path / "adaptkit.toml").write_text(f'[adapters]\nnaval = "{url}"\n')
    named = (["remote", "add", "x"], ["pull"], ["show"], ["lineage"])
    target = (tmp_path / "target").as_uri()
    for command in (*([*words, url] for words in named), ["mirror", url, target], ["lock"]):
        refused = shell.refused(*command)
        assert "SecretToken" not in refused
        assert f"cannot read a place in {scheme}://…" in refused or "holds a user" in refused
