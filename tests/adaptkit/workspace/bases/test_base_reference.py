"""What an artifact keeps of its base: nothing of this machine, and a way to it all the same."""

from __future__ import annotations

import shutil

import pytest
import tiny

from adaptkit import Workspace


@pytest.fixture
def bases(tiny_llama, tmp_path):
    """One base in two folders of other names."""
    return [shutil.copytree(tiny_llama, tmp_path / name / name) for name in ("ship", "harbour")]


def test_the_digest_does_not_depend_on_what_the_bases_folder_is_called(
    workspace, lora_pair, bases, tmp_path
):
    added = []
    for number, base in enumerate(bases):
        folder = shutil.copytree(lora_pair[0], tmp_path / str(number))
        tiny.edit_config(folder, base_model_name_or_path=str(base))
        added.append(workspace.add(folder, "naval"))
    assert [(a.version.number, a.created) for a in added] == [(1, True), (1, False)]
    gone = tiny.edit_config(
        shutil.copytree(lora_pair[0], tmp_path / "2"), base_model_name_or_path="/mnt/elsewhere/base"
    )
    assert workspace.add(gone, "other").version.digest == added[0].version.digest


def test_a_merge_and_an_extraction_do_not_depend_on_it_either(
    workspace, lora_pair, bases, tiny_llama, tmp_path
):
    tuned = tiny.save_llama(tmp_path / "tuned", seed=5)
    merged, extracted = set(), set()
    for number, base in enumerate(bases):
        folder = shutil.copytree(lora_pair[0], tmp_path / str(number))
        tiny.edit_config(folder, base_model_name_or_path=str(base))
        merged.add(workspace.merge([str(folder)], out=tmp_path / f"m{number}").manifest.digest)
        out = tmp_path / f"x{number}"
        extracted.add(workspace.extract(tuned, base, rank=4, out=out).digest)
    assert (len(merged), len(extracted)) == (1, 1)


def test_path_names_the_bases_folder_and_auto_peft_follows_it(workspace, lora_pair, tiny_llama):
    import torch
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import LlamaForCausalLM

    workspace.add(lora_pair[0], "naval")
    folder = workspace.path("naval")
    assert tiny.read_config(folder)["base_model_name_or_path"] == str(tiny_llama)
    ids = torch.tensor([[3, 5, 7]])
    found = AutoPeftModelForCausalLM.from_pretrained(folder)(ids).logits
    wanted = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(tiny_llama), lora_pair[0])
    assert torch.equal(found, wanted(ids).logits)
    assert workspace.path("naval") == folder
    (folder / "adapter_config.json").write_text("{}")
    assert tiny.read_config(workspace.path("naval"))["base_model_name_or_path"] == str(tiny_llama)


def test_path_does_not_name_a_folder_that_holds_another_base_by_now(
    workspace, lora_pair, bases, tmp_path
):
    folder = tiny.edit_config(
        shutil.copytree(lora_pair[0], tmp_path / "ad"), base_model_name_or_path=str(bases[0])
    )
    workspace.add(folder, "naval")
    assert tiny.read_config(workspace.path("naval"))["base_model_name_or_path"] == str(bases[0])
    shutil.rmtree(bases[0])
    tiny.save_llama(bases[0], seed=9)
    assert tiny.read_config(workspace.path("naval"))["base_model_name_or_path"] is None


def test_a_snapshot_in_the_hubs_cache_keeps_its_repositorys_name(
    workspace, lora_pair, tiny_llama, tmp_path
):
    snapshot = tmp_path / "hub" / "models--fleet--ship" / "snapshots" / "abc"
    shutil.copytree(tiny_llama, snapshot)
    folder = tiny.edit_config(
        shutil.copytree(lora_pair[0], tmp_path / "ad"), base_model_name_or_path=str(snapshot)
    )
    workspace.add(folder, "naval")
    assert tiny.read_config(workspace.path("naval"))["base_model_name_or_path"] == "fleet/ship"


def test_an_exported_folder_still_says_which_base_it_is_for(
    workspace, lora_pair, tiny_llama, tmp_path
):
    first = workspace.add(lora_pair[0], "naval").version
    out = workspace.export("naval", tmp_path / "out")
    with Workspace.init(tmp_path / "other") as other:
        again = other.add(out, "naval").version
    assert again.digest == first.digest
    assert (again.base.name, again.base.status) == ("llama", "claimed")
    assert again.base.level("tm1").value == first.base.level("tm1").value


def test_gc_takes_the_folders_of_path_away_with_their_artifact(workspace, lora_pair):
    workspace.add(lora_pair[0], "naval")
    folder = workspace.path("naval")
    workspace.gc()
    assert folder.is_dir()
    workspace.remove("naval@1")
    workspace.gc(grace=0, trash=0)
    assert not folder.exists()
