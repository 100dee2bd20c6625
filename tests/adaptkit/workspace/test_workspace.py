"""The verbs of `Workspace`, from a folder to a teammate."""

from __future__ import annotations

import json
import shutil
import sqlite3

import numpy as np
import pytest
import tiny
from homes import copied
from safetensors.numpy import load_file, save_file

from adaptkit import Workspace
from adaptkit.errors import (
    BadRecipe,
    BadReference,
    BaseMismatch,
    Conflict,
    Corrupt,
    NotFound,
    Refused,
    StorageError,
)
from adaptkit.types import Sameness


@pytest.fixture(scope="module")
def made(lora_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace") / "home"
    with Workspace.init(folder) as workspace:
        workspace.add(lora_pair[0], "naval", alias="prod", message="first")
        workspace.add(lora_pair[1], "medic")
    return folder


@pytest.fixture
def filled(made, tmp_path):
    """naval@1 and medic@1, on one base."""
    with copied(made, tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def team(tmp_path):
    return (tmp_path / "team").as_uri()


def scaled(folder, target, factor):
    """The same adapter with other numbers."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "adapter_model.safetensors")
    save_file(
        {k: v * np.float32(factor) for k, v in tensors.items()},
        target / "adapter_model.safetensors",
    )
    return target


# ---------------------------------------------------------------- add


def test_add_registers_by_base_hash_and_keeps_no_local_path(
    workspace, lora_pair, tiny_llama, tmp_path
):
    added = workspace.add(lora_pair[0], "naval", message="first", alias="prod")
    version = added.version
    assert (version.ref, version.method, version.rank, added.created) == (
        "naval@1",
        "lora",
        4,
        True,
    )
    assert version.base.name == "llama"
    assert version.base.status == "verified"
    assert {level.kind for level in version.base.levels} == {"as1", "fs1", "tm1"}
    stored = workspace.export("naval@prod", tmp_path / "stored")
    assert tiny.read_config(stored)["base_model_name_or_path"] is None
    assert str(tiny_llama) not in "".join(p.read_text(errors="ignore") for p in stored.iterdir())
    assert tiny.read_config(lora_pair[0])["base_model_name_or_path"] == str(
        tiny_llama
    )  # the folder is untouched


def test_adding_what_the_latest_version_is_changes_nothing(filled, lora_pair, tmp_path):
    again = filled.add(lora_pair[0], "naval")
    assert (again.version.number, again.created) == (1, False)
    filled.add(scaled(lora_pair[0], tmp_path / "b", 2), "naval")
    back = filled.add(lora_pair[0], "naval")
    assert (back.version.number, back.created) == (3, True)  # it is not the latest any more


def test_an_adapter_whose_base_is_only_a_name_is_unverified_and_verify_repairs_it(
    workspace, lora_pair, tiny_llama, tmp_path
):
    folder = tiny.edit_config(
        shutil.copytree(lora_pair[0], tmp_path / "a"), base_model_name_or_path="fleet/ship"
    )
    version = workspace.add(folder, "naval").version
    assert (version.base.name, version.base.status) == ("fleet/ship", "unverified")
    repaired = workspace.verify_base("naval", str(tiny_llama))
    assert (repaired.name, repaired.status) == ("fleet/ship", "verified")
    assert workspace.version("naval").base == repaired
    assert workspace.show("naval").manifest.base.status == "verified"


def test_a_local_base_that_is_gone_leaves_its_last_part_as_the_name(workspace, lora_pair, tmp_path):
    folder = tiny.edit_config(
        shutil.copytree(lora_pair[0], tmp_path / "a"),
        base_model_name_or_path="/home/ada/models/ship",
    )
    assert workspace.add(folder, "naval").version.base.name == "ship"
    assert tiny.read_config(workspace.path("naval"))["base_model_name_or_path"] is None


def test_modules_and_shapes_are_checked_against_the_base_at_hand(workspace, lora_pair, tmp_path):
    wide = tiny.save_llama(tmp_path / "wide", hidden_size=64)
    with pytest.raises(
        BaseMismatch,
        match=r"does not fit the base .*q_proj' is \[32, 32\] here and \[64, 64\] in the base",
    ):
        workspace.add(lora_pair[0], "naval", base=str(wide))
    short = tiny.save_llama(tmp_path / "short", num_hidden_layers=1)
    with pytest.raises(BaseMismatch, match=r"'model.layers.1.mlp.down_proj' is not in the base"):
        workspace.add(lora_pair[0], "naval", base=str(short))
    assert workspace.list() == ()
    forced = workspace.add(lora_pair[0], "naval", base=str(short), force=True)
    assert "not in the base" in workspace.show(forced.version.ref).manifest.facts["forced"][0]
    assert workspace.noticed


def test_conv1d_shapes_are_checked_as_the_base_stores_them(workspace, tmp_path):
    base = tmp_path / "gpt2"
    tiny.gpt2().save_pretrained(base)
    folder = tiny.make_adapter(
        tiny.gpt2(), tmp_path / "a", 1, r=2, target_modules=["c_attn"], fan_in_fan_out=True
    )
    assert workspace.add(folder, "naval", base=str(base)).version.base.status == "verified"


def test_a_name_keeps_its_base_and_method_without_new_version(filled, lora_pair, tmp_path):
    other = tiny.save_llama(tmp_path / "other", seed=9)
    with pytest.raises(Refused, match="'naval' holds adapters of another base"):
        filled.add(scaled(lora_pair[0], tmp_path / "x", 2), "naval", base=str(other), force=True)
    added = filled.add(tmp_path / "x", "naval", base=str(other), new_version=True, force=True)
    assert added.version.number == 2
    odd = tiny.edit_config(
        shutil.copytree(lora_pair[0], tmp_path / "odd"), peft_type="PROMPT_TUNING"
    )
    with pytest.raises(Refused, match="'medic' holds lora adapters: this one is generic"):
        filled.add(odd, "medic")


def test_a_pickle_comes_in_as_safetensors_when_asked_for(workspace, lora_pair, tmp_path):
    import torch

    folder = shutil.copytree(lora_pair[0], tmp_path / "a")
    tensors = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    torch.save({k: torch.from_numpy(v) for k, v in tensors.items()}, folder / "adapter_model.bin")
    workspace.add(folder, "naval", allow_pickle=True)
    stored = workspace.path("naval")
    assert not (stored / "adapter_model.bin").exists()
    for key, value in load_file(stored / "adapter_model.safetensors").items():
        assert np.array_equal(value, tensors[key])
    assert workspace.show("naval").manifest.facts["converted_from"]["path"] == "adapter_model.bin"


# ---------------------------------------------------------------- references and naming


def test_references_find_versions_and_near_names_are_shown(filled, tmp_path, monkeypatch):
    digest = filled.version("naval").digest
    assert filled.version(digest[:20]).ref == "naval@1"
    assert filled.version(f"naval@{digest[:15]}").ref == "naval@1"
    with pytest.raises(NotFound, match=r"no adapter called 'navel': known are naval, medic"):
        filled.version("navel")
    with pytest.raises(NotFound, match=r"no version of naval called '7': known is 1"):
        filled.version("naval@7")
    with pytest.raises(NotFound, match=r"no alias of naval called 'prd': known is prod"):
        filled.version("naval@prd")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(NotFound) as caught:
        filled.version("out")
    assert "./out" in str(caught.value)


def test_aliases_move_by_compare_and_swap_and_roll_back(filled, lora_pair, tmp_path):
    filled.add(scaled(lora_pair[0], tmp_path / "b", 2), "naval")
    assert filled.alias("naval", "prod", 2, expect=1).old == 1
    with pytest.raises(Conflict, match="it points at 2, not at 1"):
        filled.alias("naval", "prod", 1, expect=1)
    assert filled.version("naval@prod").number == 2
    assert filled.rollback("naval", "prod").new == 1
    assert [(m.old, m.new) for m in filled.log("naval").moves] == [(None, 1), (1, 2), (2, 1)]
    with pytest.raises(NotFound, match="no alias of naval called 'beta'"):
        filled.rollback("naval", "beta")


def test_what_an_alias_or_a_descendant_points_at_is_not_removed(filled):
    filled.merge(["naval", "medic"], name="bridge")
    with pytest.raises(Refused, match=r"cannot remove naval@1: the alias prod points at it"):
        filled.remove("naval@1")
    with pytest.raises(Refused, match=r"cannot remove medic@1: bridge@1 was made from it"):
        filled.remove("medic")
    filled.remove("bridge")
    filled.remove("medic")
    assert [v.ref for v in filled.list()] == ["naval@1"]
    assert [v.ref for v in filled.trash()] == ["bridge@1", "medic@1"]
    assert filled.restore("medic@1").ref == "medic@1"


def test_numbers_are_never_used_again(filled, lora_pair, tmp_path):
    filled.remove("medic@1")
    assert filled.add(lora_pair[1], "medic").version.number == 2


def test_notes_are_merged_with_earlier_notes(filled):
    filled.note("naval", message="better", tags=["approved"], metrics={"exact": 0.9})
    version = filled.note("naval", tags=["quick"], metrics={"exact": 0.95})
    assert (version.message, version.tags, version.metrics) == (
        "better",
        ("approved", "quick"),
        {"exact": 0.95},
    )


# ---------------------------------------------------------------- bases


def test_list_shows_what_fits_a_model_on_disk(filled, lora_pair, tiny_llama, tmp_path):
    other = tiny.save_llama(tmp_path / "other", seed=9)
    stray = tiny.save_adapter(other, tmp_path / "stray", seed=3, target_modules=["q_proj"])
    filled.add(stray, "stray")
    assert [v.name for v in filled.list(base=str(tiny_llama))] == ["medic", "naval"]
    assert [v.name for v in filled.list(base=str(other))] == ["stray"]
    tm1 = filled.version("stray").base.level("tm1").value
    assert [v.name for v in filled.list(base=tm1)] == ["stray"]
    assert filled.list(method="generic") == ()
    verdict = filled.compare_bases(str(tiny_llama), str(other))
    assert verdict.sameness is Sameness.DIFFERENT
    assert "model.embed_tokens.weight" in verdict.tensors


def test_adapters_of_different_bases_are_refused_with_both_named_and_force_is_recorded(
    filled, lora_pair, tmp_path
):
    other = tiny.save_llama(tmp_path / "other", seed=9)
    filled.add(lora_pair[1], "stray", base=str(other), force=True)
    with pytest.raises(
        BaseMismatch,
        match=r"naval and stray are for different bases: 'llama' and 'other' hold different",
    ):
        filled.merge(["naval", "stray"], name="wreck")
    assert "wreck" not in [v.name for v in filled.list()]
    filled.merge(["naval", "stray"], name="wreck", force=True)
    assert "different tensors" in filled.show("wreck").manifest.facts["forced"][0]


def test_bases_known_by_one_name_only_pass_with_a_warning_and_other_names_are_refused(
    workspace, lora_pair, tmp_path
):
    for name, declared in (("one", "fleet/ship"), ("two", "fleet/ship"), ("three", "fleet/boat")):
        folder = scaled(lora_pair[0], tmp_path / name, {"one": 1, "two": 2, "three": 3}[name])
        workspace.add(tiny.edit_config(folder, base_model_name_or_path=declared), name)
    workspace.merge(["one", "two"], name="sum")
    assert workspace.show("sum").manifest.facts["warnings"]
    with pytest.raises(BaseMismatch):
        workspace.merge(["one", "three"], name="wreck")


# ---------------------------------------------------------------- merge


def test_a_merge_is_a_version_with_lineage_recipe_and_loss(filled):
    made = filled.merge(["naval@prod=0.7", "medic=0.3"], name="bridge", message="both")
    shown = filled.show("bridge")
    assert [(p.label, p.weight) for p in shown.parents] == [("naval@prod", 0.7), ("medic", 0.3)]
    assert shown.manifest.recipe["strategy"] == "linear"
    assert shown.manifest.facts["loss"]["error"] == made.report.error.total < 1e-6
    assert shown.version.base.status == "verified"
    again = filled.merge(["naval@prod=0.7", "medic=0.3"], name="bridge")
    assert (again.version.number, again.created) == (1, False)


def test_a_merge_of_folders_into_a_folder_touches_no_database(tmp_path, lora_pair):
    workspace = Workspace.open(tmp_path / "home", notify=lambda _: None)
    made = workspace.merge(
        [f"{lora_pair[0]}=0.5", str(lora_pair[1])], out=tmp_path / "deep" / "out"
    )
    assert not (tmp_path / "home" / "registry.db").exists()
    assert made.out == tmp_path / "deep" / "out"
    tiny.reload_strictly(tiny.llama(), made.out)
    manifest = json.loads((made.out / "adaptkit.json").read_text())
    assert manifest["digest"] == made.manifest.digest
    assert [p["weight"] for p in manifest["parents"]] == [0.5, 1.0]
    assert not [p for p in made.out.parent.iterdir() if p != made.out]


def test_registered_and_unregistered_sources_give_the_same_digest(filled, lora_pair, tmp_path):
    one = filled.merge(["naval=0.5", "medic"], name="bridge")
    two = filled.merge([f"{lora_pair[0]}=0.5", str(lora_pair[1])], out=tmp_path / "out")
    assert one.recipe.digest == two.recipe.digest
    assert one.manifest.digest == two.manifest.digest


def test_a_full_or_wrong_out_and_a_missing_goal_are_refused(filled, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    with pytest.raises(Refused, match="is not empty"):
        filled.merge(["naval"], out=tmp_path / "full")
    assert (tmp_path / "full" / "x").read_text() == "mine"
    with pytest.raises(Refused, match="is a file"):
        filled.merge(["naval"], out=tmp_path / "full" / "x")
    with pytest.raises(BadReference, match="the new adapter goes to one place"):
        filled.merge(["naval"])
    (tmp_path / "empty").mkdir()
    assert filled.merge(["naval"], out=tmp_path / "empty").out == tmp_path / "empty"


def test_the_same_adapter_twice_is_found_through_any_name(filled, lora_pair):
    with pytest.raises(BadRecipe, match="are the same adapter"):
        filled.merge(["naval=0.7", f"{lora_pair[0]}=0.3"], name="bridge")


# ---------------------------------------------------------------- sharing


def test_a_teammate_pulls_what_was_pushed_and_peft_reads_the_place(filled, team, tmp_path):
    filled.merge(["naval=0.7", "medic=0.3"], name="bridge")
    pushed = filled.push("bridge", f"{team}/bridge")
    assert (pushed.receipt.number, pushed.receipt.unchanged) == (1, False)
    tiny.reload_strictly(tiny.llama(), tmp_path / "team" / "bridge" / "v1")
    again = filled.push("bridge", f"{team}/bridge")
    assert (again.receipt.sent, again.receipt.unchanged) == (0, True)
    with Workspace.init(tmp_path / "mate") as mate:
        pulled = mate.pull(f"{team}/bridge@1")
        assert pulled.version.digest == filled.version("bridge").digest
        assert mate.show("bridge").manifest.recipe == filled.show("bridge").manifest.recipe
        assert mate.show("bridge").placements[0].place == f"{team}/bridge"
        assert mate.pull(f"{team}/bridge").created is False
        assert mate.path("bridge").name == filled.version("bridge").digest.removeprefix("sha256:")


def test_numbers_keep_where_they_can_and_else_are_the_next(filled, team, lora_pair, tmp_path):
    filled.set_remote("team", team)
    for factor in (2, 3):
        filled.add(scaled(lora_pair[0], tmp_path / str(factor), factor), "naval")
    assert filled.push("naval@3", "team").receipt.number == 3
    again = filled.push("naval@1", "team", older="as-latest").receipt
    assert again.number == 4  # 1 is not larger than all there
    with Workspace.init(tmp_path / "mate") as mate:
        assert mate.pull(f"{team}/naval").version.number == 4
        assert mate.pull(f"{team}/naval@3").version.number == 5
        assert {(p.number) for p in mate.show("naval@5").placements} == {3}


def test_an_alias_that_is_pushed_is_carried(filled, team, tmp_path):
    filled.push("naval@prod", f"{team}/naval")
    with Workspace.init(tmp_path / "mate") as mate:
        assert mate.pull(f"{team}/naval@prod", name="ship").version.ref == "ship@1"


def test_a_corrupted_blob_in_a_place_is_named_quarantined_and_not_registered(
    filled, team, tmp_path
):
    filled.push("naval", f"{team}/naval")
    weights = tmp_path / "team" / "naval" / "v1" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with Workspace.init(tmp_path / "mate") as mate:
        with pytest.raises(
            Corrupt, match=r"'adapter_model.safetensors' of file://.*naval@1 is corrupt"
        ):
            mate.pull(f"{team}/naval")
        assert mate.list() == ()
        assert mate.store.digests() == ()
        assert len(list((mate.store.root / "quarantine").iterdir())) == 1


def test_a_merge_takes_places_and_pins_them_by_digest(filled, team, tmp_path):
    filled.push("naval", f"{team}/naval")
    with Workspace.open(tmp_path / "mate", notify=lambda _: None) as mate:
        made = mate.merge([f"{team}/naval@1=0.5"], out=tmp_path / "out")
        assert made.recipe.sources[0].digest == filled.version("naval").digest


def test_the_registry_is_rebuilt_from_a_remote(filled, team, tmp_path):
    filled.set_remote("team", team)
    filled.merge(["naval", "medic"], name="fleet/bridge")
    filled.alias("naval", "prod", 1, confirmed=True)
    for name in ("naval@prod", "medic", "fleet/bridge"):
        filled.push(name, "team")
    before = {v.ref: v.digest for v in filled.list()}
    filled.close()
    shutil.rmtree(filled.home.store)
    for left in filled.home.path.glob("registry.db*"):
        left.unlink()
    filled.rebuild("team")
    assert {v.ref: v.digest for v in filled.list()} == before
    assert [p.label for p in filled.show("fleet/bridge").parents] == ["naval", "medic"]
    assert filled.version("naval@prod").ref == "naval@1"
    filled.rebuild("team")
    assert filled.verify().damaged == ()


def test_a_remote_that_cannot_be_written_or_is_unknown_says_so(filled, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cannot \w+ file://.*file/naval"):
        filled.push("naval", (tmp_path / "file" / "naval").as_uri())
    with pytest.raises(NotFound, match="no remote called 'tema'"):
        filled.push("naval", "tema")
    with pytest.raises(NotFound, match="no storage backend called 'gopher': known are .*file"):
        filled.push("naval", "gopher://x/naval")
    assert filled.show("naval").placements == ()


# ---------------------------------------------------------------- trust


def test_a_rotten_blob_is_found_by_verify_and_never_handed_out(filled):
    entry = filled.show("naval").manifest.files[-1]
    blob = filled.store.blob(entry.sha256)
    blob.chmod(0o644)
    blob.write_bytes(b"rot")
    found = filled.verify()
    assert len(found.damaged) == 1
    assert entry.path in found.damaged[0]
    with pytest.raises(Exception, match="damaged|missing"):
        filled.path("naval")


def test_export_gives_a_folder_of_its_own(filled, tmp_path):
    out = filled.export("naval", tmp_path / "copy")
    (out / "adapter_config.json").write_text("changed")
    assert filled.verify("naval").damaged == ()
    with pytest.raises(Refused, match="is not empty"):
        filled.export("naval", out)


def test_load_puts_an_adapter_on_a_model(filled, lora_pair):
    model = filled.load("naval", tiny.llama()).eval()
    assert np.allclose(
        tiny.output(model), tiny.peft_sum(tiny.llama, [lora_pair[0]], [1]), atol=1e-5
    )


def test_every_change_is_an_event(filled, team):
    filled.push("naval", f"{team}/naval")
    filled.alias("naval", "beta", 1)
    filled.remove("medic")
    filled.restore("medic@1")
    verbs = [event.verb for event in reversed(filled.registry.events())]
    assert verbs == [
        "added",
        "alias-moved",
        "added",
        "published",
        "alias-moved",
        "deleted",
        "restored",
    ]
    assert {event.actor for event in filled.registry.events()} == {"ada"}


def test_a_foreign_database_is_left_alone(tmp_path):
    (tmp_path / ".adaptkit").mkdir()
    with sqlite3.connect(tmp_path / ".adaptkit" / "registry.db") as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    other.close()
    from adaptkit.errors import NotARegistry

    with (
        Workspace.open(tmp_path / ".adaptkit") as workspace,
        pytest.raises(NotARegistry, match="belongs to another program"),
    ):
        workspace.list()
