"""`verified` is said of a base only when the adapter was checked against its class; a folder that was hashed is `measured`."""

from __future__ import annotations

import json
import shutil

import pytest
import tiny


@pytest.fixture
def nameless(tiny_llama, tmp_path):
    """The tiny Llama with a config.json that names no class."""
    folder = shutil.copytree(tiny_llama, tmp_path / "nameless")
    (folder / "config.json").write_text("{}")
    return folder


def test_an_adapter_checked_against_its_bases_class_is_verified(workspace, lora_pair):
    assert workspace.add(lora_pair[0], "naval").version.base.status == "verified"
    assert workspace.show("naval").manifest.to_json()["base"]["status"] == "verified"


def test_a_base_whose_class_is_not_known_is_only_measured(workspace, lora_pair, nameless, tmp_path):
    folder = shutil.copytree(lora_pair[0], tmp_path / "ad")
    tiny.edit_config(folder, base_model_name_or_path=str(nameless))
    assert workspace.add(folder, "naval").version.base.status == "measured"


def test_a_misfit_that_was_forced_is_only_measured(workspace, lora_pair, tmp_path):
    short = tiny.save_llama(tmp_path / "short", num_hidden_layers=1)
    added = workspace.add(lora_pair[0], "naval", base=str(short), force=True)
    assert added.version.base.status == "measured"


def test_a_base_alone_is_measured_whatever_was_checked_against_it(workspace, lora_pair, tiny_llama):
    workspace.add(lora_pair[0], "naval")
    workspace.add_base(str(tiny_llama), name="ship")
    assert workspace.base("ship").identity.status == "measured"
    assert [(base.status, count) for base, count in workspace.bases()] == [("measured", 1)]
    assert workspace.version("naval").base.status == "verified"


def test_a_merge_is_checked_again_where_the_base_is_on_this_machine(
    workspace, lora_pair, tmp_path, tiny_llama
):
    base = shutil.copytree(tiny_llama, tmp_path / "ship")
    for name, source in zip(("naval", "medic"), lora_pair, strict=True):
        folder = shutil.copytree(source, tmp_path / name)
        workspace.add(tiny.edit_config(folder, base_model_name_or_path=str(base)), name)
    made = workspace.merge(["naval", "medic"], name="bridge")
    assert made.version.base.status == "verified"
    shutil.rmtree(base)
    made = workspace.merge(["naval=2", "medic"], name="bridge")
    assert made.version.base.status == "measured"


def test_verify_counts_the_versions_by_what_is_known_of_their_base(
    workspace, lora_pair, nameless, tmp_path
):
    workspace.add(lora_pair[0], "naval")
    for name, base in (("one", str(nameless)), ("two", "fleet/ship")):
        folder = shutil.copytree(lora_pair[1], tmp_path / name)
        tiny.edit_config(folder, base_model_name_or_path=base, lora_dropout=len(name + base) / 1e3)
        workspace.add(folder, name)
    found = workspace.verify()
    assert found.bases == {"verified": 1, "measured": 1, "unverified": 1}
    assert json.loads(json.dumps(found.to_json()))["bases"] == found.bases
