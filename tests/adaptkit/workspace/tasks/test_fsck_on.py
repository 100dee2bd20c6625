"""fsck on real worker processes finds and repairs what it finds and repairs in this process."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from adaptkit.errors import StorageError
from adaptkit.workspace.maintenance.hashed import Hashed
from adaptkit.workspace.tasks.places import look_at_some
from adaptkit_plugins.executors.local import Local


@pytest.fixture
def pushed(workspace, lora_pair, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTKIT_WORKER_CACHE", str(tmp_path / "worker"))
    for path in lora_pair:
        workspace.add(path, path.name)
        workspace.push(path.name, f"file://{tmp_path}/team/{path.name}")
    return workspace


def flip_last_bit(file):
    os.chmod(file, 0o644)
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def damage_store(workspace, name):
    files = workspace.show(name).manifest.files
    (entry,) = [one for one in files if one.path.endswith("safetensors")]
    flip_last_bit(workspace.store.blob(entry.sha256))


def in_place(tmp_path, name):
    (file,) = (tmp_path / "team" / name).rglob("adapter_model.safetensors")
    return file


def told(checked):
    return sorted((one.kind, one.what, one.why) for one in checked.findings)


def without_shared_files(monkeypatch):
    seen = Local.capabilities.fget
    monkeypatch.setattr(
        Local, "capabilities", property(lambda self: replace(seen(self), shared_files=False))
    )


def test_a_sound_home_is_sound_on_processes(pushed):
    there = pushed.fsck(deep=True, on="local")
    assert (there.artifacts, there.placements, there.findings) == (2, 2, ())


def test_damage_in_the_store_is_found_and_repaired_from_a_place(pushed, tmp_path):
    damage_store(pushed, "one")
    there = pushed.fsck(on="local")
    (finding,) = [one for one in there.findings if one.harmful]
    assert finding.kind == "corrupt"
    assert finding.what.startswith("one@1 ")
    assert "adapter_model.safetensors" in finding.why
    repaired = pushed.fsck(on="local", repair=True)
    assert f"from file://{tmp_path}/team/one@1" in [one.repaired for one in repaired.findings]
    assert not [one for one in pushed.fsck(on="local").findings if one.harmful]


def test_a_flipped_bit_in_a_place_is_found_by_deep_and_repaired(pushed, tmp_path):
    good = in_place(tmp_path, "two").read_bytes()
    flip_last_bit(in_place(tmp_path, "two"))
    assert pushed.fsck(on="local").sound  # sizes alone do not show it
    here, there = pushed.fsck(deep=True), pushed.fsck(deep=True, on="local")
    assert told(there) == told(here)
    (finding,) = there.findings
    assert finding.kind == "damaged"
    assert "adapter_model.safetensors: expected sha256" in finding.why
    assert pushed.fsck(deep=True, repair=True, on="local").sound
    assert in_place(tmp_path, "two").read_bytes() == good
    assert not list((tmp_path / "worker").glob("*"))  # what was fetched to be hashed is gone


def test_a_place_that_a_worker_cannot_reach_is_unreachable_and_never_forgotten(pushed, tmp_path):
    placements = pushed.registry.all_placements()
    os.rename(tmp_path / "team", tmp_path / "elsewhere")  # as for a worker without these files
    found = look_at_some({}, placements)
    os.rename(tmp_path / "elsewhere", tmp_path / "team")
    assert [type(one) for one in found] == [StorageError, StorageError]
    assert found[0].what == f"a worker cannot look at {placements[0].place}@1"
    assert "fsck --deep without --on" in found[0].fix
    place = pushed.places.open(placements[0].place)
    hashed = Hashed({}, {(placements[0].place, 1): found[0]})
    with pytest.raises(StorageError, match="a worker cannot look at"):
        hashed.look(place, place.version(1))
    with pytest.raises(StorageError, match="no worker looked at"):
        Hashed({}, {}).look(place, place.version(1))


def test_workers_that_do_not_see_the_store_hash_the_places_only(pushed, tmp_path, monkeypatch):
    without_shared_files(monkeypatch)
    damage_store(pushed, "one")
    flip_last_bit(in_place(tmp_path, "two"))
    there = pushed.fsck(deep=True, on="local")
    assert {one.kind for one in there.findings if one.harmful} == {"corrupt", "damaged"}
    assert "the store is hashed by this process" in pushed.noticed[0]
