"""Bases by what they are made of: named, claimed, measured, shared, compared."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import tiny
from safetensors.numpy import load_file, save_file

from adaptkit import Workspace
from adaptkit.errors import BadReference, BaseMismatch, Conflict, NotFound, StorageError
from adaptkit.types import Quantisation, Sameness
from adaptkit.workspace.lookup.bases import same_base


def cached(base, root, name="models--fleet--ship", revision="1" * 40):
    """A copy as the Hub cache keeps it: blobs called by their sha256, a snapshot of links."""
    blobs, snapshot = root / name / "blobs", root / name / "snapshots" / revision
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in base.iterdir():
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
    return snapshot


def other_shards(base, folder):
    from transformers import LlamaForCausalLM

    LlamaForCausalLM.from_pretrained(base).save_pretrained(folder, max_shard_size="40KB")
    return folder


@pytest.fixture
def other(tmp_path):
    """A teammate's workspace."""
    with Workspace.init(tmp_path / "other", notify=lambda _: None) as ws:
        yield ws


def test_a_base_has_a_name_here_and_an_adapter_can_be_made_for_it_by_that_name(
    workspace, tiny_llama, lora_pair
):
    called, found = workspace.add_base(str(tiny_llama), name="ship")
    assert (called, found.status) == ("ship", "measured")
    assert [(base, count) for base, count in workspace.bases()] == [(found, 0)]
    workspace.add(lora_pair[0], name="naval", base="ship")
    assert workspace.version("naval").base.levels == found.levels
    assert [v.name for v in workspace.list(base="ship")] == ["naval"]
    shown = f"{found.levels[0].value[:16]}…"  # as tables have it
    assert workspace.base(shown).identity.levels == found.levels
    assert workspace.base(shown.removesuffix("…")).identity.levels == found.levels
    with pytest.raises(NotFound, match="no base called 'as1:00000000'"):
        workspace.base("as1:00000000")
    workspace.alias_base("flagship", "ship")
    assert set(workspace.base_names()) == {"ship", "flagship"}
    workspace.alias_base("flagship", None)
    with pytest.raises(NotFound, match="no base called 'flagship': known are .*ship"):
        workspace.base("flagship")
    with pytest.raises(NotFound) as caught:
        workspace.base("models/shp")
    assert (
        caught.value.fix == "there is no folder models/shp here either: check the path for a typo"
    )
    with pytest.raises(NotFound, match="no base name called 'flagship'"):
        workspace.alias_base("flagship", None)


def test_a_taken_name_means_another_base_only_with_force(workspace, tiny_llama, tmp_path):
    workspace.add_base(str(tiny_llama), name="ship")
    second = tiny.save_llama(tmp_path / "second", seed=1)
    with pytest.raises(
        Conflict, match="(?s)the base name 'ship' is taken: it means another base.*--move"
    ):
        workspace.add_base(str(second), name="ship")
    workspace.add_base(str(second), name="ship", move=True)
    assert workspace.base("ship").identity.levels == workspace.base(str(second)).identity.levels


def test_the_hub_cache_is_believed_without_reading_a_weight(workspace, tiny_llama, tmp_path):
    snapshot = cached(tiny_llama, tmp_path / "hub")
    measured = workspace.base(str(tiny_llama)).identity
    weights = (snapshot / "model.safetensors").resolve()
    header = 8 + int.from_bytes(weights.read_bytes()[:8], "little")
    with weights.open("r+b") as file:  # what is behind the header is gone: nobody looks there
        file.seek(header)
        file.write(b"\0" * (weights.stat().st_size - header))
    claimed = workspace.base(str(snapshot), claim=True).identity
    assert (claimed.name, claimed.status) == ("fleet/ship", "claimed")
    assert claimed.level("fs1").value == measured.level("fs1").value
    assert claimed.level("as1").value == measured.level("as1").value
    assert not claimed.level("fs1").measured
    assert workspace.base(str(snapshot)).identity.level("fs1") != measured.level(
        "fs1"
    )  # read, it shows


def test_a_folder_that_is_no_cache_is_measured_even_when_a_claim_would_do(workspace, tiny_llama):
    assert workspace.base(str(tiny_llama), claim=True).identity.status == "measured"


def test_verify_turns_a_claim_into_a_measurement(workspace, tiny_llama, tmp_path):
    snapshot = cached(tiny_llama, tmp_path / "hub")
    workspace.add_base(str(snapshot), name="ship", claim=True)
    assert workspace.base("ship").identity.status == "claimed"
    found = workspace.verify_base("ship", str(tiny_llama))
    assert (found.name, found.status) == ("fleet/ship", "measured")
    assert workspace.base("ship").identity == found
    with pytest.raises(BaseMismatch, match="ship is another base than .*other.*different tensors"):
        workspace.verify_base("ship", str(tiny.save_llama(tmp_path / "other-base", seed=1)))


def test_what_a_teammate_measured_travels_with_what_is_pulled(
    workspace, other, tiny_llama, lora_pair, tmp_path
):
    """They hold the base in other shards; here is only the cache's word for the files. The pair joins them."""
    snapshot, sharded = (
        cached(tiny_llama, tmp_path / "hub"),
        other_shards(tiny_llama, tmp_path / "sharded"),
    )
    place = f"file://{tmp_path}/team"
    workspace.add(lora_pair[0], name="medic", base=str(sharded))
    claimed = workspace.base(str(snapshot), claim=True).identity
    assert [v.name for v in workspace.list(base=str(sharded))] == ["medic"]

    other.add(lora_pair[1], name="naval", base=str(tiny_llama))
    other.push("naval", f"{place}/naval")
    workspace.pull(f"{place}/naval")

    pair = workspace.measured_by(claimed)
    assert pair is not None
    assert pair.tm1 == workspace.base(str(tiny_llama)).identity.level("tm1").value
    assert (
        same_base(workspace, claimed, workspace.version("medic").base).sameness
        is Sameness.PROBABLY_SAME
    )
    made = workspace.merge(["naval", "medic"], name="bridge")
    assert made.created


def test_a_second_measurement_of_the_same_files_must_agree(workspace, tiny_llama):
    found = workspace.base(str(tiny_llama)).identity
    files, tensors = found.level("fs1").value, found.level("tm1").value
    assert workspace.registry.record_pair(files, tensors, author="ada")
    assert not workspace.registry.record_pair(files, tensors, author="bob")
    with pytest.raises(
        Conflict, match="cannot hold the tensors .*: ada measured .* in the same files"
    ):
        workspace.registry.record_pair(files, "tm1:" + "0" * 64, author="bob")


def test_names_and_pairs_move_with_an_export(workspace, other, tiny_llama, tmp_path):
    workspace.add_base(str(tiny_llama), name="ship")
    workspace.export_registry(tmp_path / "all.jsonl")
    other.import_registry(tmp_path / "all.jsonl")
    assert other.base_names() == workspace.base_names()
    assert {k: p.tm1 for k, p in other.registry.pairs().items()} == {
        k: p.tm1 for k, p in workspace.registry.pairs().items()
    }
    other.import_registry(tmp_path / "all.jsonl")


def test_added_tokens_are_distinguished_from_another_model(workspace, tiny_llama, tmp_path):
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(tiny_llama)
    model.resize_token_embeddings(70, mean_resizing=False)
    model.save_pretrained(tmp_path / "more")
    verdict = workspace.compare_bases(str(tiny_llama), str(tmp_path / "more"))
    assert verdict.sameness is Sameness.DIFFERENT
    assert "embeddings of 64 and 70 rows: tokens were added to one of them" in verdict.reason
    assert set(verdict.tensors) == {"lm_head.weight", "model.embed_tokens.weight"}


def test_of_pickles_only_the_files_are_known(workspace, tiny_llama, lora_pair, tmp_path):
    folder = tmp_path / "pickled"
    folder.mkdir()
    shutil.copy(tiny_llama / "config.json", folder)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle that nobody runs")
    found = workspace.base(str(folder))
    assert [level.kind for level in found.identity.levels] == ["fs1"]
    assert found.shapes is None
    workspace.add(lora_pair[0], name="naval", base=str(folder))
    assert workspace.version("naval").base.status == "measured"


def test_a_quantised_copy_says_what_it_was_made_from(workspace, tiny_llama, tmp_path):
    copy = shutil.copytree(tiny_llama, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    (copy / "README.md").write_text(
        "---\nlicense: mit\nbase_model:\n  - fleet/ship\n---\nbase_model: no/other\n"
    )
    tensors = load_file(copy / "model.safetensors")
    save_file(
        {name: value + 1 for name, value in tensors.items()},
        copy / "model.safetensors",
        {"format": "pt"},
    )
    found = workspace.base(str(copy)).identity
    assert (found.derived_from, found.quantised) == ("hf://fleet/ship", Quantisation("gptq", 4, ""))
    origin = workspace.base(str(cached(tiny_llama, tmp_path / "hub"))).identity
    verdict = same_base(workspace, found, origin)
    assert verdict.sameness is Sameness.PROBABLY_SAME
    assert "quantised copy made from 'fleet/ship'" in verdict.reason
    _, claimed = workspace.add_base(str(copy), name="small", derived_from=str(tiny_llama))
    assert claimed.derived_from == workspace.base(str(tiny_llama)).identity.level("tm1").value


def test_an_adapter_trained_on_a_base_quantised_at_load_is_for_its_files(
    workspace, tiny_llama, lora_pair
):
    workspace.add(
        lora_pair[0],
        name="qlora",
        base=str(tiny_llama),
        quantised=Quantisation("bitsandbytes", 4, "nf4"),
    )
    workspace.add(lora_pair[1], name="lora", base=str(tiny_llama))
    assert workspace.version("qlora").base.quantised == Quantisation("bitsandbytes", 4, "nf4")
    assert workspace.version("qlora").base.levels == workspace.version("lora").base.levels
    assert workspace.merge(["qlora", "lora"], name="both").created


def test_a_place_of_adapters_is_no_base(workspace, tmp_path):
    with pytest.raises(
        StorageError, match="cannot read the base .*: bases are read from hf:// places"
    ):
        workspace.base(f"file://{tmp_path}/team/naval")
    with pytest.raises(BadReference, match="a base model has revisions, not versions"):
        workspace.base(f"file://{tmp_path}/team/naval@3")
