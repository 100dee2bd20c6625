"""A base on the Hub is known by what the Hub states of its files: the same levels as its folder, but only claimed."""

from __future__ import annotations

import json

import pipelines
import pytest
import tiny
from hubs import hub
from loopback_hub import Fault

from adaptkit.errors import AdaptkitError, BadReference, BaseMismatch

__all__ = ["hub"]


@pytest.fixture(params=["whole", "sharded"])
def folder(request, tiny_llama, tmp_path):
    if request.param == "whole":
        return tiny_llama
    from transformers import LlamaForCausalLM

    LlamaForCausalLM.from_pretrained(tiny_llama).save_pretrained(
        tmp_path / "sharded", max_shard_size="40KB"
    )
    return tmp_path / "sharded"


def upload(hub, folder, **more):
    return hub.create("fleet/ship").commit(
        {p.name: p.read_bytes() for p in folder.iterdir()} | more
    )


def test_levels_stated_by_the_hub_equal_those_of_the_folder(hub, folder, workspace):
    head = upload(hub, folder)
    here, there = workspace.base(str(folder)), workspace.base(f"hf://fleet/ship@rev:{head}")
    assert there.identity.name == "fleet/ship"
    assert there.identity.status == "claimed"
    for kind in ("as1", "fs1"):
        assert there.identity.level(kind).value == here.identity.level(kind).value
        assert not there.identity.level(kind).measured
    assert there.shapes == here.shapes
    assert workspace.compare_bases(str(folder), "hf://fleet/ship").sameness.value == "probably-same"


@pytest.mark.parametrize("size", ["5GB", "40KB"], ids=["whole", "sharded"])
def test_a_variant_on_the_hub_counts_where_the_plain_files_are_not_there(
    hub, size, tiny_llama, workspace, tmp_path
):
    from transformers import LlamaForCausalLM

    half = tmp_path / "half"
    model = LlamaForCausalLM.from_pretrained(tiny_llama)
    model.save_pretrained(half, variant="fp16", max_shard_size=size)
    upload(hub, half)
    here, there = workspace.base(str(half)), workspace.base("hf://fleet/ship")
    for kind in ("as1", "fs1"):
        assert there.identity.level(kind).value == here.identity.level(kind).value
    assert there.shapes == here.shapes
    assert there.remarks == here.remarks
    assert "the variant fp16" in there.remarks[0]


def test_of_a_plain_model_and_its_variants_on_the_hub_the_plain_one_counts(
    hub, tiny_llama, lora_pair, workspace
):
    weights = (tiny_llama / "model.safetensors").read_bytes()
    upload(hub, tiny_llama, **{"model.fp16.safetensors": weights[:-8] + bytes(8)})
    workspace.add(lora_pair[0], "naval", base="hf://fleet/ship")
    said = "hf://fleet/ship: model.fp16.safetensors was not read: the plain files count"
    assert said in workspace.noticed
    plain = workspace.base(str(tiny_llama)).identity
    assert workspace.base("hf://fleet/ship").identity.level("fs1").value == plain.level("fs1").value
    names = {f"model.{variant}.safetensors": weights for variant in ("fp16", "bf16")}
    hub.create("fleet/two").commit({"config.json": b"{}", **names})
    with pytest.raises(AdaptkitError, match="hf://fleet/two holds several variants") as caught:
        workspace.base("hf://fleet/two")
    assert caught.value.why == "model.bf16.safetensors, model.fp16.safetensors"


def test_a_pipeline_on_the_hub_is_known_by_its_components(hub, workspace, tmp_path):
    pytest.importorskip("diffusers", reason="pip install diffusers")
    made = pipelines.make(tmp_path / "sd")
    files = {p.relative_to(made).as_posix(): p for p in made.rglob("*") if p.is_file()}
    hub.create("fleet/sd").commit({name: p.read_bytes() for name, p in files.items()})
    here, there = workspace.base(str(made)), workspace.base("hf://fleet/sd")
    for kind in ("as1", "fs1"):
        assert there.identity.level(kind).value == here.identity.level(kind).value
    assert there.shapes == here.shapes
    parts = pipelines.modules("unet", "text_encoder")
    file = pipelines.kohya(tmp_path / "style.safetensors", parts)
    assert workspace.add(file, "style", base="hf://fleet/sd").version.base.name == "fleet/sd"
    hub.create("fleet/broken").commit({"model_index.json": b"[]", "unet/config.json": b"{}"})
    with pytest.raises(
        AdaptkitError, match=r"model_index.json of hf://fleet/broken cannot be read"
    ):
        workspace.base("hf://fleet/broken")


def test_only_headers_cross(hub, tiny_llama, workspace):
    size = (tiny_llama / "model.safetensors").stat().st_size
    upload(hub, tiny_llama)
    workspace.base("hf://fleet/ship")
    asked = [seen.range for seen in hub.seen if seen.origin == "store" and seen.method == "GET"]
    assert asked == ["bytes=0-65535"]
    assert size > 65_536


def test_an_adapter_is_checked_against_a_base_on_the_hub(
    hub, tiny_llama, lora_pair, tmp_path, workspace
):
    upload(hub, tiny_llama)
    added = workspace.add(lora_pair[0], "naval", base="hf://fleet/ship").version
    assert (added.base.name, added.base.status) == ("fleet/ship", "claimed")
    hub.create("fleet/ship").commit(
        {
            p.name: p.read_bytes()
            for p in tiny.save_llama(tmp_path / "wide", hidden_size=64).iterdir()
        }
    )
    with pytest.raises(BaseMismatch, match="does not fit the base fleet/ship"):
        workspace.add(lora_pair[0], "medic", base="hf://fleet/ship")


def test_a_pickled_base_is_known_by_its_files_alone(hub, workspace):
    hub.create("fleet/old").commit({"pytorch_model.bin": b"pickle", "config.json": b"{}"})
    found = workspace.base("hf://fleet/old")
    assert [level.kind for level in found.identity.levels] == ["fs1"]
    assert found.shapes is None


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"x": b"1"}, "hf://fleet/odd is not a base model"),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "one.safetensors"}}'},
            "its index names one.safetensors, which is missing",
        ),
        (
            {"model.safetensors.index.json": b"[]"},
            "model.safetensors.index.json of hf://fleet/odd cannot be read",
        ),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": 5}}'},
            "model.safetensors.index.json of hf://fleet/odd cannot be read",
        ),
        ({"model.safetensors": b"\xff" * 99}, "its header would have"),
        ({"model.safetensors": b"\x02" + b"\0" * 7 + b"[]"}, "model.safetensors"),
        (
            {
                "model.safetensors.index.json": json.dumps({"weight_map": {"a": "../x"}}).encode(),
                "../x": b"",
            },
            "is not allowed",
        ),
    ],
)
def test_a_repository_that_holds_no_base_is_one_error(hub, workspace, files, words):
    hub.create("fleet/odd").commit(files)
    with pytest.raises(AdaptkitError) as caught:
        workspace.base("hf://fleet/odd")
    assert words in str(caught.value)
    assert str(workspace.home.path) not in str(caught.value)


def test_other_places_hold_no_bases_and_bases_no_numbers(hub, workspace, tmp_path):
    with pytest.raises(AdaptkitError, match="bases are read from hf:// places"):
        workspace.base(tmp_path.as_uri())
    with pytest.raises(BadReference, match="a base model has revisions, not versions"):
        workspace.base("hf://fleet/ship@3")


def test_a_hub_that_ignores_ranges_is_read_no_further_than_needed(hub, tiny_llama, workspace):
    upload(hub, tiny_llama)
    hub.faults.add(Fault("GET /get/", spoil="no-range"))
    assert workspace.base("hf://fleet/ship").identity.status == "claimed"


def test_a_copy_in_the_hub_cache_is_believed_without_asking_anybody(hub, tiny_llama, workspace):
    from huggingface_hub import snapshot_download

    upload(hub, tiny_llama)
    here = workspace.base(str(tiny_llama)).identity
    snapshot_download("fleet/ship", endpoint=hub.url)
    asked = len(hub.seen)
    found = workspace.base("hf://fleet/ship")
    assert len(hub.seen) == asked
    assert (found.identity.name, found.identity.status) == (
        "fleet/ship",
        "measured" if found.identity.level("tm1") else "claimed",
    )
    assert found.identity.level("fs1").value == here.level("fs1").value
    assert found.folder is not None
    workspace.add_base(
        str(tiny_llama), name="ship"
    )  # somebody measured these very files: now the tensors are known too
    known = workspace.base("hf://fleet/ship").identity
    assert (known.level("tm1").value, known.level("tm1").measured) == (
        here.level("tm1").value,
        False,
    )


def test_a_base_of_the_hub_gets_a_name_here_and_what_was_made_for_it_is_found(
    hub, tiny_llama, lora_pair, workspace
):
    upload(hub, tiny_llama)
    workspace.add_base("hf://fleet/ship", name="ship")
    workspace.add(lora_pair[0], "naval", base=str(tiny_llama))
    assert [v.name for v in workspace.list(base="ship")] == ["naval"]
    assert workspace.verify_base("ship", str(tiny_llama)).status == "measured"
