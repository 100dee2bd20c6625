"""The folder of a bake in progress: what it may rely on after a crash, and how often it waits for the disk."""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest

from adaptkit.bake.work_folder import JOURNAL, WorkFolder, failed_name
from adaptkit.errors import Refused


def opened(folder, key="sha256:1", **how):
    return WorkFolder.open(folder, key, **{"clean": False, "sync": True} | how)


def test_a_file_is_finished_when_the_journal_lists_it_and_it_is_there(tmp_path):
    first = opened(tmp_path / "out")
    assert first.finished == []
    (first.path / "unet").mkdir()
    for name in ("a.safetensors", "unet/b.safetensors"):
        (first.path / name).touch()
    first.note(["a.safetensors", "unet/b.safetensors"])
    assert opened(tmp_path / "out").finished == ["a.safetensors", "unet/b.safetensors"]
    (first.path / "a.safetensors").unlink()  # a name that a power cut took
    assert opened(tmp_path / "out").finished == ["unet/b.safetensors"]


def test_without_sync_nothing_is_noted(tmp_path):
    folder = opened(tmp_path / "out", sync=False)
    (folder.path / "a.safetensors").touch()
    folder.note(["a.safetensors"])
    assert json.loads((folder.path / JOURNAL).read_text())["finished"] == []


def test_another_key_is_refused_and_cleaned(tmp_path):
    opened(tmp_path / "out").note([])
    with pytest.raises(Refused) as caught:
        opened(tmp_path / "out", "sha256:2")
    assert caught.value.fix == "--clean drops it and begins anew"
    assert opened(tmp_path / "out", "sha256:2", clean=True).finished == []


def test_its_end_is_the_name_or_failed_and_leaves_no_journal(tmp_path):
    out = tmp_path / "out"
    folder = opened(out)
    (folder.path / ".model.safetensors.0.tmp").touch()  # of a worker that was killed
    (folder.path / "config.json").touch()
    folder.give_name()
    assert [path.name for path in out.iterdir()] == ["config.json"]
    other = opened(tmp_path / "other")
    other.set_aside()
    assert list(failed_name(tmp_path / "other").iterdir()) == []
    assert not other.path.exists()


def test_a_bake_syncs_each_file_once_and_its_journal_once_a_group(
    workspace, lora_pair, tiny_llama, tmp_path, monkeypatch
):
    from transformers import LlamaForCausalLM

    base = tmp_path / "base"
    LlamaForCausalLM.from_pretrained(tiny_llama).save_pretrained(base, max_shard_size="40KB")
    count = len(list(base.glob("*.safetensors")))
    waits, fsync = Counter(), os.fsync

    def note(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2]
        waits[name.removeprefix(".").partition(".safetensors")[0].partition(".json")[0]] += 1
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    workspace.bake(str(lora_pair[0]), base, tmp_path / "out", force=True, workers=2)
    shards = {file.stem: waits[file.stem] for file in base.glob("*.safetensors")}
    assert set(shards.values()) == {1}
    groups = -(-count // 2)
    assert waits["adaptkit-bake"] == 1 + groups
    assert waits["out.partial"] == 1 + groups + 1
