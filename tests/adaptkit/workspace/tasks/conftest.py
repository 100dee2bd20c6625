"""A base in several files, and an adapter whose bake is handed to an executor however small it is."""

from __future__ import annotations

import pytest

from adaptkit.workspace.tasks import merge as merging


@pytest.fixture(scope="module")
def shards(tiny_llama, tmp_path_factory):
    from transformers import LlamaForCausalLM

    folder = tmp_path_factory.mktemp("shards") / "base"
    LlamaForCausalLM.from_pretrained(tiny_llama).save_pretrained(folder, max_shard_size="40KB")
    return folder


@pytest.fixture
def naval(workspace, lora_pair, monkeypatch):
    monkeypatch.setattr(merging, "WORTH", 0.0)
    return workspace.add(lora_pair[0], "naval").version
