"""adaptkit.workspace.maintenance: fsck, gc, info, export and import; on SQLite, and by two workspaces on one PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tiny
from blobs import put_blob
from homes import copied

from adaptkit import Workspace
from adaptkit.errors import AdaptkitError, Conflict, NotFound, RegistryError, StoreError
from adaptkit.io.sizes import size_text
from adaptkit.workspace.units import parse_age, parse_size

DAY = 24 * 3600.0


@pytest.fixture(scope="module")
def made(lora_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("maintenance") / "home"
    with Workspace.init(folder) as workspace:
        workspace.add(lora_pair[0], "naval", alias="prod")
        workspace.add(lora_pair[1], "medic")
    return folder


@pytest.fixture
def filled(made, tmp_path):
    with copied(made, tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def team(tmp_path):
    return (tmp_path / "team").as_uri()


def later(workspace, days):
    """The same workspace, some days on (or back)."""
    return Workspace.open(
        workspace.home.path,
        notify=lambda _: None,
        clock=lambda: datetime.now(UTC) + timedelta(days=days),
    )


def blobs(workspace):
    return {path.name: path for path in (workspace.store.root / "objects").glob("??/*")}


def blob_of(workspace, ref, name="adapter_model.safetensors"):
    manifest = workspace.registry.manifest(workspace.version(ref).digest)
    sha256 = next(entry.sha256 for entry in manifest.files if entry.path == name)
    return workspace.store.root / "objects" / sha256[:2] / sha256


def kinds(checked):
    return [finding.kind for finding in checked.findings]


# ---------------------------------------------------------------- fsck


def test_a_sound_workspace_has_no_findings(filled, team):
    filled.push("naval", team)
    checked = filled.fsck()
    assert (checked.artifacts, checked.placements, checked.findings, checked.sound) == (
        2,
        1,
        (),
        True,
    )


def _truncate(path):
    path.chmod(0o644)
    os.truncate(path, 7)


def _flip(path):
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _link(path):
    copy = path.with_name("moved")
    path.rename(copy)
    path.symlink_to(copy)


def _folder(path):
    path.unlink()
    path.mkdir()
    (path / "x").touch()


def _dangling_link(path):
    path.unlink()
    path.symlink_to("nowhere")


DAMAGES = [Path.unlink, _truncate, _flip, _link, _folder, _dangling_link]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_damaged_blob_is_found_by_fsck_and_brought_back_from_a_placement(
    filled, team, damage, name
):
    filled.push("naval", team)
    filled.path("naval")
    damage(blob_of(filled, "naval", name))
    checked = filled.fsck()
    assert kinds(checked)[0] == "corrupt"
    assert not checked.sound
    assert checked.findings[0].what.startswith("naval@1 (")
    repaired = filled.fsck(repair=True)
    assert repaired.sound
    assert repaired.findings[0].repaired == f"from {team}@1"
    assert [
        f
        for f in filled.fsck().findings
        if "quarantine" not in f.what and f.what != "the blob moved…"
    ] == []
    assert filled.events()[0].verb == "repaired"
    tiny.reload_strictly(tiny.llama(), filled.path("naval"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_blob_is_found_on_use_and_fetched_again(filled, team, damage):
    filled.push("naval", team)
    damage(blob_of(filled, "naval"))
    assert (filled.path("naval") / "adapter_model.safetensors").stat().st_size > 7
    assert any("fetched from" in text for text in filled.noticed)
    assert filled.verify("naval").damaged == ()


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_damaged_and_never_pushed_is_named_and_can_be_added_again(
    filled, lora_pair, damage
):
    damage(blob_of(filled, "naval"))
    checked = filled.fsck(repair=True)
    assert not checked.sound
    assert "never pushed anywhere" in checked.findings[0].why
    with pytest.raises(StoreError, match="damaged|missing"):
        filled.path("naval")
    assert not filled.add(lora_pair[0], "naval").created
    assert filled.fsck().sound
    assert filled.path("naval").is_dir()


def test_a_lost_manifest_is_written_again_from_the_registry(filled):
    shutil.rmtree(filled.store.root / "manifests")
    assert kinds(filled.fsck()) == ["missing", "missing"]
    repaired = filled.fsck(repair=True)
    assert [f.repaired for f in repaired.findings] == ["from what was in the store"] * 2
    assert filled.fsck().findings == ()


def test_a_lost_store_comes_back_from_placements(filled, team):
    filled.push("naval", f"{team}/naval")
    filled.push("medic", f"{team}/medic")
    shutil.rmtree(filled.store.root)
    assert kinds(filled.fsck()) == ["elsewhere", "elsewhere"]
    assert filled.fsck().sound
    assert filled.fsck(repair=True).sound
    assert filled.fsck().findings == ()


def test_a_placement_that_is_gone_is_dangling_and_forgotten_by_repair(filled, team, tmp_path):
    filled.push("naval", team)
    shutil.rmtree(tmp_path / "team" / "v1")
    assert kinds(filled.fsck()) == ["dangling"]
    assert filled.fsck(places=False).sound
    assert filled.fsck(repair=True).findings[0].repaired == "forgotten"
    assert filled.fsck().findings == ()
    assert filled.show("naval").placements == ()


def test_what_belongs_to_nothing_is_orphaned_and_no_damage(filled):
    put_blob(filled.store, b"left by a killed add", "x")
    checked = filled.fsck()
    assert (kinds(checked), checked.sound) == (["orphaned"], True)


def test_a_database_that_contradicts_itself_is_reported(filled):
    from sqlalchemy import text

    with filled.registry._engine.begin() as connection:
        connection.execute(text("UPDATE adapters SET next_number = 1 WHERE name = 'naval'"))
        connection.execute(text("UPDATE versions SET deleted = '2026' WHERE id = 1"))
        connection.execute(text("DELETE FROM files WHERE path = 'adapter_config.json'"))
    checked = filled.fsck()
    found = " ".join(f.what for f in checked.findings if f.kind == "contradiction")
    assert "naval would give the number 1 again" in found
    assert "naval@prod points at naval@1, which is in the trash" in found
    assert "do not agree with its manifest" in found
    assert not checked.sound


def test_a_stale_index_of_words_is_built_again_by_repair(filled):
    with filled.registry._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM adapter_words_data WHERE id > 10")
    (found,) = filled.fsck().findings
    assert "the index 'adapter_words' does not hold what its table says" in found.what
    (repaired,) = filled.fsck(repair=True).findings
    assert repaired.repaired == "built again from the table"
    assert filled.fsck().findings == ()


# ---------------------------------------------------------------- gc


def test_gc_takes_only_what_is_unused_and_old(filled):
    entry = put_blob(filled.store, b"nobody's", "x")
    before = set(blobs(filled))
    assert filled.gc().swept == ()  # too young
    done = filled.gc(grace=0, dry_run=True)
    assert (done.swept, done.swept_bytes, done.dry_run) == ((entry.sha256,), 8, True)
    assert set(blobs(filled)) == before
    done = filled.gc(grace=0)
    assert (done.swept, done.swept_bytes, done.freed) == ((entry.sha256,), 8, 0)
    assert set(blobs(filled)) == before - {entry.sha256}
    assert filled.fsck().findings == ()
    assert filled.gc(grace=0).swept == ()
    with later(filled, 31) as future:
        done = future.gc()
    assert (done.freed, done.freed_bytes) == (1, 8)
    assert filled.events()[0].verb == "swept"


def test_a_clock_that_was_set_back_makes_nothing_old(filled):
    put_blob(filled.store, b"nobody's", "x")
    filled.remove("medic")
    with later(filled, -1000) as past:
        assert past.gc(grace=0) == past.gc(grace=0, trash=0.001)
        assert past.trash()
    assert filled.restore("medic@1").ref == "medic@1"


def test_a_removed_version_can_be_restored_until_the_trash_is_emptied(filled, lora_pair):
    filled.remove("medic")
    assert filled.gc(grace=0).swept == ()
    filled.restore("medic@1")
    assert filled.path("medic").is_dir()
    filled.remove("medic")
    with later(filled, 31) as future:
        assert future.gc(dry_run=True).purged == ("medic@1",)
        done = future.gc()
        assert done.purged == ("medic@1",)
        assert len(done.swept) == 3  # weights, configuration, manifest: in the store's trash now
    assert [e.verb for e in filled.events()][:2] == ["swept", "purged"]
    with pytest.raises(NotFound):
        filled.restore("medic@1")
    assert filled.fsck().findings == ()
    again = filled.add(lora_pair[1], "medic")
    assert again.version.number == 2  # never used again
    assert filled.path("medic").is_dir()


def test_a_file_that_a_living_version_shares_is_kept(filled, lora_pair, tmp_path):
    copy = Path(shutil.copytree(lora_pair[0], tmp_path / "copy"))
    filled.add(tiny.edit_config(copy, lora_alpha=3), "naval")  # the same weights
    filled.remove("naval@2")
    with later(filled, 31) as future:
        assert len(future.gc().swept) == 2
    assert filled.verify().damaged == ()


def test_what_work_holds_a_lease_on_is_left_alone(filled):
    with filled.store.working():
        entry = put_blob(filled.store, b"about to be registered", "x")
        filled.store.leases.keep([entry.sha256])
        assert filled.gc(grace=0).swept == ()
    assert filled.gc(grace=0).swept == (entry.sha256,)


def test_what_a_killed_gc_carried_off_comes_back_on_use_and_with_the_next_gc(filled):
    run = filled.store.root / "trash" / "1-killed"
    run.mkdir(parents=True)
    weights, config = blob_of(filled, "naval"), blob_of(filled, "medic", "adapter_config.json")
    for path in (weights, config):
        path.rename(run / path.name)
    assert filled.path("naval").is_dir()  # on use
    assert weights.exists()
    done = filled.gc()
    assert done.returned == (config.name,)
    assert filled.fsck().findings == ()


def test_gc_clears_the_trees_of_what_is_gone_and_the_work_of_the_killed(filled):
    filled.path("medic")
    filled.remove("medic")
    (filled.store.root / "tmp" / "tree.x").mkdir()
    (filled.home.path / "tmp" / ".adaptkit-killed").mkdir()
    with later(filled, 31) as future:
        future.gc()
    assert list((filled.store.root / "trees").iterdir()) == []
    assert list((filled.store.root / "tmp").iterdir()) == []
    assert list((filled.home.path / "tmp").iterdir()) == []


def test_gc_of_an_empty_workspace_does_nothing(workspace):
    assert workspace.gc(grace=0, trash=0).swept == ()


# ---------------------------------------------------------------- info


def test_info_counts_what_is_there_and_shows_quotas(filled, lora_pair):
    filled.add(lora_pair[1], "fleet/medic")
    filled.home.config_file.write_text('[quotas]\nstore = "1 kB"\nfleet = "20 GB"\n')
    with Workspace.open(filled.home.path) as opened:
        found = opened.info()
    size = sum(path.stat().st_size for path in blobs(filled).values())
    medic = filled.registry.manifest(filled.version("medic").digest)
    assert (found.counts["adapters"], found.counts["versions"], found.counts["aliases"]) == (
        3,
        3,
        1,
    )
    assert found.store["objects"] == size
    assert found.teams[""] == size
    assert found.teams["fleet"] == sum(entry.size for entry in medic.files + medic.extras)
    assert found.quotas == {"store": (size, 1000), "fleet": (found.teams["fleet"], 20 * 10**9)}


def test_an_invalid_quota_or_age_is_refused(filled):
    filled.home.config_file.write_text('[quotas]\nstore = "much"\n')
    with (
        Workspace.open(filled.home.path) as opened,
        pytest.raises(AdaptkitError, match="the quota of store is 'much'"),
    ):
        opened.info()
    with pytest.raises(AdaptkitError, match="--grace is 'soon': an age is a number"):
        parse_age("soon", "--grace")


def test_sizes_and_ages_are_read_as_people_write_them():
    assert [parse_size(t, "x") for t in ("5", "1 kB", "1.5GB", "2 MiB")] == [
        5,
        1000,
        1_500_000_000,
        2 * 2**20,
    ]
    assert [parse_age(t, "x") for t in ("0", "24h", "30d", "1.5m", "2w")] == [
        0,
        DAY,
        30 * DAY,
        90,
        14 * DAY,
    ]
    assert [size_text(n) for n in (0, 999, 1000, 1_500_000, 10**13)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "1.5 MB",
        "10.0 TB",
    ]


# ---------------------------------------------------------------- two workspaces, one database, one remote


@pytest.fixture
def mates(postgres, tmp_path, monkeypatch):
    """Ada's and Bob's workspaces on one PostgreSQL."""
    monkeypatch.setenv("ADAPTKIT_REGISTRY_URL", postgres.database())
    opened = [Workspace.init(tmp_path / name, notify=lambda _: None) for name in ("ada", "bob")]
    for workspace in opened:
        workspace.set_remote("team", (tmp_path / "team").as_uri())
    yield opened
    for workspace in opened:
        workspace.close()


def test_teammates_see_each_others_versions_and_fetch_the_bytes_when_they_need_them(
    mates, lora_pair
):
    ada, bob = mates
    ada.add(lora_pair[0], "fleet/naval", alias="prod", message="first")
    assert [(v.ref, v.aliases, v.message) for v in bob.list()] == [
        ("fleet/naval@1", ("prod",), "first")
    ]
    with pytest.raises(
        StoreError, match="fleet/naval@1 is not in this workspace's store: and it was never pushed"
    ) as caught:
        bob.path("fleet/naval")
    assert caught.value.fix == "ask ada: adaptkit push fleet/naval@1 REMOTE"
    ada.push("fleet/naval", "team")
    assert bob.fsck().findings[0].kind == "elsewhere"
    assert bob.verify().elsewhere == (ada.version("fleet/naval").digest,)
    tiny.reload_strictly(tiny.llama(), bob.path("fleet/naval@prod"))
    assert bob.fsck().findings == ()
    bob.add(lora_pair[1], "fleet/medic")
    merged = bob.merge(["fleet/naval=0.5", "fleet/medic"], name="fleet/bridge")
    assert ada.version("fleet/bridge").digest == merged.manifest.digest
    assert len(ada.lineage("fleet/bridge").versions) == 3


def test_a_merge_and_an_export_fetch_what_is_not_here(mates, lora_pair, tmp_path):
    ada, bob = mates
    for path, name in zip(lora_pair, ("naval", "medic"), strict=True):
        ada.add(path, name)
        ada.push(name, "team")
    assert bob.merge(["naval", "medic"], name="bridge").version.ref == "bridge@1"
    shutil.rmtree(bob.store.root)
    assert (bob.export("medic", tmp_path / "out") / "adapter_config.json").is_file()


def test_a_gc_of_one_teammate_does_not_touch_what_the_other_needs(mates, lora_pair):
    ada, bob = mates
    ada.add(lora_pair[0], "naval")
    bob.add(lora_pair[1], "medic")
    for workspace in mates:
        assert workspace.gc(grace=0).swept == ()
    assert ada.path("naval").is_dir()
    assert bob.path("medic").is_dir()


def test_a_gc_spares_the_workspaces_own_database_while_a_teams_is_in_force(
    filled, postgres, monkeypatch
):
    monkeypatch.setenv("ADAPTKIT_REGISTRY_URL", postgres.database())
    with Workspace.open(filled.home.path) as opened:
        assert opened.list() == ()
        assert opened.gc(grace=0).swept == ()
    assert filled.verify().damaged == ()


# ---------------------------------------------------------------- export, import


def lines(path):
    """An export, less the events that an import leaves, and the last line that counts them."""
    read = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
    assert read[-1]["end"] == len(read) - 1
    return [line for line in read[:-1] if line.get("event") != "imported"]


@pytest.fixture
def eventful(filled, lora_pair, tmp_path, team):
    """Something of everything."""
    filled.push("naval", team)
    filled.merge(["naval@prod=0.7", "medic"], name="fleet/bridge", message="Zusammenführung")
    filled.note("naval", tags=["sea", "Meer"], metrics={"accuracy": 0.93}, description="terse")
    filled.alias("naval", "canary", 1)
    filled.alias("naval", "canary", None)
    filled.rename("naval", "marine")
    filled.remove("fleet/bridge")
    filled.add(
        tiny.edit_config(Path(shutil.copytree(lora_pair[0], tmp_path / "more")), lora_alpha=3),
        "marine",
    )
    return filled


def test_a_registry_goes_to_postgresql_and_back_without_loss(
    eventful, postgres, tmp_path, monkeypatch
):
    first = eventful.export_registry(tmp_path / "one.jsonl")
    monkeypatch.setenv("ADAPTKIT_REGISTRY_URL", postgres.database())
    with Workspace.open(eventful.home.path) as team:
        new = team.import_registry(first)
        assert new["versions"] == 4
        assert team.import_registry(first) == {}  # idempotent
        second = team.export_registry(tmp_path / "two.jsonl")
        assert team.version("naval@prod").ref == "marine@1"
        assert [v.ref for v in team.trash()] == ["fleet/bridge@1"]
        assert team.fsck().sound
    assert lines(second) == lines(first)
    monkeypatch.delenv("ADAPTKIT_REGISTRY_URL")
    with Workspace.init(tmp_path / "back", notify=lambda _: None) as back:
        back.import_registry(second)
        assert lines(back.export_registry(tmp_path / "three.jsonl")) == lines(first)
        assert back.import_registry(first) == {}
        assert back.add(tmp_path / "more", "marine").created is False


def test_an_import_into_a_registry_that_goes_on_keeps_what_is_there(eventful, tmp_path, lora_pair):
    export = eventful.export_registry(tmp_path / "one.jsonl")
    eventful.alias("marine", "prod", 2)
    eventful.note("marine@1", metrics={"accuracy": 0.5})
    before = eventful.export_registry(tmp_path / "two.jsonl").read_bytes()
    assert eventful.import_registry(export) == {}
    assert eventful.export_registry(tmp_path / "three.jsonl").read_bytes() == before


def test_a_number_that_means_something_else_here_stops_the_whole_import(
    eventful, tmp_path, lora_pair
):
    export = eventful.export_registry(tmp_path / "one.jsonl")
    with Workspace.init(tmp_path / "other", notify=lambda _: None) as other:
        other.add(lora_pair[0], "medic")
        before = other.export_registry(tmp_path / "before.jsonl").read_bytes()
        with pytest.raises(
            Conflict, match=r"medic@1 is sha256:.* in the export and sha256:.* here"
        ):
            other.import_registry(export)
        assert other.export_registry(tmp_path / "after.jsonl").read_bytes() == before


def test_a_former_name_that_is_another_adapter_here_stops_the_whole_import(
    eventful, tmp_path, lora_pair
):
    export = eventful.export_registry(tmp_path / "one.jsonl")
    with Workspace.init(tmp_path / "other", notify=lambda _: None) as other:
        other.add(lora_pair[0], "naval")
        with pytest.raises(
            Conflict, match="'naval', a former name of marine, means another adapter here"
        ):
            other.import_registry(export)
        assert [v.ref for v in other.list()] == ["naval@1"]


def test_half_an_export_is_never_taken_for_a_whole_one(eventful, tmp_path):
    whole = eventful.export_registry(tmp_path / "one.jsonl").read_bytes()
    part, count = tmp_path / "part.jsonl", whole.count(b"\n")
    with Workspace.init(tmp_path / "other") as other:
        for cut in range(0, len(whole) - 1, max(1, len(whole) // 40)):
            part.write_bytes(whole[:cut])
            with pytest.raises(RegistryError, match="cannot import part.jsonl|no export"):
                other.import_registry(part)
        kept = whole.splitlines(keepends=True)
        for number in range(1, count - 1, 3):
            part.write_bytes(b"".join(kept[:number] + kept[number + 1 :]))
            with pytest.raises(RegistryError, match="it was cut off or edited"):
                other.import_registry(part)
        assert other.list() == ()
        assert other.events() == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a registry export"),
        (b"dear diary", "not a registry export"),
        (b"[1]\n", "not a registry export"),
        (b"\xff\xfe", "no text"),
        (b'{"adaptkit-registry": 99}\n', "format 99, this version reads 1"),
        (b"[" * 100_000, "not a registry export"),
    ],
)
def test_a_file_that_is_no_export_is_refused(workspace, tmp_path, content, message):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(RegistryError, match=message):
        workspace.import_registry(tmp_path / "x.jsonl")


def test_a_file_without_an_end_is_not_read_to_it(workspace):
    with pytest.raises(RegistryError, match="not a registry export"):
        workspace.import_registry("/dev/zero")


def test_an_export_that_was_edited_with_care_is_still_checked(eventful, tmp_path):
    """An edit that also fixes the last line cannot smuggle in a manifest that is not what its digest says."""
    from hashlib import sha256

    whole = eventful.export_registry(tmp_path / "one.jsonl").read_text("utf-8").splitlines()[:-1]
    for old, new in (
        ('"size":', '"size":1'),
        ('"number":1', '"number":"x"'),
        ('"event":', '"nothing":'),
        ('"adapter":"marine"', '"adapter":"../marine"'),
    ):
        body = [line.replace(old, new) for line in whole]
        end = {
            "end": len(body),
            "sha256": sha256("".join(f"{line}\n" for line in body).encode()).hexdigest(),
        }
        (tmp_path / "x.jsonl").write_text("\n".join([*body, json.dumps(end)]) + "\n", "utf-8")
        with Workspace.init(tmp_path / "other") as other:
            with pytest.raises(
                AdaptkitError, match=r"line \d+ is not a line of an export|failed|is not a name"
            ):
                other.import_registry(tmp_path / "x.jsonl")
            assert other.list() == ()


# ---------------------------------------------------------------- a description is not the thing


def _weights(team, name="naval", number=1):
    return team / name / f"v{number}" / "adapter_model.safetensors"


@pytest.fixture
def pushed(filled, tmp_path):
    """The workspace with `naval` at file:///…/place/naval, and that folder's parent."""
    filled.push("naval", (tmp_path / "place" / "naval").as_uri())
    return filled, tmp_path / "place"


def test_weights_gone_or_cut_in_a_place_are_damage_and_repair_sends_them_again(pushed):
    workspace, place = pushed
    good = _weights(place).read_bytes()
    for harm, why in (
        (lambda file: file.unlink(), "adapter_model.safetensors: it is missing"),
        (lambda file: file.write_bytes(b"cut"), "adapter_model.safetensors: it has 3 bytes"),
    ):
        _weights(place).chmod(0o644)
        harm(_weights(place))
        checked = workspace.fsck()
        (finding,) = [f for f in checked.findings if f.kind == "damaged"]
        assert why in finding.why
        assert not checked.sound
        repaired = workspace.fsck(repair=True)
        assert repaired.sound
        assert "sent again: adapter_model.safetensors" in [f.repaired for f in repaired.findings]
        assert _weights(place).read_bytes() == good
        assert workspace.fsck(deep=True).sound


def test_a_flipped_bit_in_a_place_is_found_by_deep_and_repaired(pushed):
    workspace, place = pushed
    good = _weights(place).read_bytes()
    _weights(place).chmod(0o644)
    _weights(place).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert workspace.fsck().sound  # sizes alone do not show it
    checked = workspace.fsck(deep=True)
    (finding,) = [f for f in checked.findings if f.kind == "damaged"]
    assert "expected sha256" in finding.why
    assert not checked.sound
    assert workspace.fsck(deep=True, repair=True).sound
    assert _weights(place).read_bytes() == good


def test_what_exists_nowhere_any_more_is_lost_and_a_failed_repair_is_not_sound(pushed):
    workspace, place = pushed
    _weights(place).unlink()
    shutil.rmtree(workspace.store.root)
    for repair in (False, True):
        checked = workspace.fsck(repair=repair)
        assert not checked.sound
        lost = [f for f in checked.findings if f.kind == "lost" and f.what.startswith("naval@1")]
        assert len(lost) == 1
        assert "its bytes are in no place that responded (lora, " in lost[0].why


def test_a_manifest_that_cannot_be_believed_is_damage(pushed):
    workspace, place = pushed
    (place / "naval" / "v1" / "adaptkit.json").write_text("{")
    checked = workspace.fsck()
    assert [f.kind for f in checked.findings if f.harmful] == ["damaged"]
    assert "cannot be trusted" in next(f.why for f in checked.findings if f.harmful)
    assert not workspace.fsck(repair=True).sound
