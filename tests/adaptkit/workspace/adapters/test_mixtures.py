"""X-LoRA: the adapters that it mixes lie in folders beside it, and go wherever it goes."""

from __future__ import annotations

import json
import shutil

import pytest
from peft import XLoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from adaptkit import Workspace


@pytest.fixture
def mixture(lora_pair, tiny_llama, tmp_path):
    """An X-LoRA of two adapters, as PEFT saves it."""
    places = dict(zip(("0", "1"), map(str, lora_pair), strict=True))
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    model.config.use_cache = False
    config = XLoraConfig(
        task_type="CAUSAL_LM", hidden_size=32, xlora_depth=1, xlora_size=8, adapters=places
    )
    get_peft_model(model, config).save_pretrained(tmp_path / "mix")
    return tmp_path / "mix"


def adapters_of(folder):
    return json.loads((folder / "adapter_config.json").read_text())["adapters"]


def test_what_is_mixed_is_pushed_and_pulled_with_it(mixture, tiny_llama, workspace, tmp_path):
    added = workspace.add(mixture, "mix", base=str(tiny_llama)).version
    workspace.push("mix", f"file://{tmp_path}/place/mix")
    with Workspace.init(tmp_path / "elsewhere") as elsewhere:
        assert elsewhere.pull(f"file://{tmp_path}/place/mix").version.digest == added.digest
        folder = elsewhere.path("mix")
    weights = [folder / name / "adapter_model.safetensors" for name in ("0", "1")]
    assert [w.read_bytes() for w in weights] == [
        (mixture / name / "adapter_model.safetensors").read_bytes() for name in ("0", "1")
    ]
    for name, place in adapters_of(folder).items():  # where PEFT looks for them
        assert place == str(folder.with_name(folder.name.partition(".")[0]) / name)


def test_no_path_of_this_machine_is_kept_and_the_digest_knows_none(
    mixture, tiny_llama, workspace, tmp_path
):
    added = workspace.add(mixture, "mix", base=str(tiny_llama)).version
    out = workspace.export("mix", tmp_path / "out")
    assert adapters_of(out) == {"0": str(out / "0"), "1": str(out / "1")}
    shutil.move(out, tmp_path / "moved")
    again = workspace.add(tmp_path / "moved", "mix", base=str(tiny_llama)).version
    assert again.digest == added.digest
