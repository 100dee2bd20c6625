"""Every engine gets files that it loads, or a refusal that says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import tiny
import yaml
from command_line import run

from adaptkit import Workspace
from adaptkit.adapters.adapter import Adapter
from adaptkit.errors import NotFound, Refused
from adaptkit.serving.engines.gguf_file import BaseShape, permuted
from adaptkit.serving.engines.layouts import LAYOUTS

SCHEMA = json.loads((Path(__file__).parents[4] / "docs" / "output.schema.json").read_text())
FOLDERS = ("vllm", "sglang", "lorax", "ray")


@pytest.fixture(scope="module")
def workspace(fleet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export-for")
    with Workspace.init(folder / "home", notify=lambda _: None) as ws:
        for name, path in fleet.adapters.items():
            ws.add(path, name, base=str(fleet.base))
        plain = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
        for name in ("plain", "team/plain"):
            ws.add(
                tiny.save_adapter(fleet.base, folder / name, 31, **plain),
                name,
                base=str(fleet.base),
            )
        second = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
        ws.add(
            tiny.save_adapter(fleet.base, folder / "n2", 21, **second),
            "naval",
            base=str(fleet.base),
        )
        ws.alias("naval", "prod", 1)
        yield ws


@pytest.mark.parametrize("engine", FOLDERS)
def test_a_folder_named_by_version_is_what_peft_reads(workspace, fleet, tmp_path, engine):
    from peft import PeftModel

    made = workspace.export_for("team/plain", tmp_path / "out", engine)
    assert made.names == ("team-plain-1",)
    folder = tmp_path / "out" / "team-plain-1"
    same = (folder / "adapter_model.safetensors").read_bytes()
    assert same == (workspace.path("plain") / "adapter_model.safetensors").read_bytes()
    assert "default" in PeftModel.from_pretrained(fleet.model(), folder).peft_config
    assert made.source == LAYOUTS[engine].source


def test_what_loads_it_is_printed_for_each_engine(workspace, tmp_path):
    out = {name: workspace.export_for("plain@1", tmp_path / name, name) for name in FOLDERS}
    folder = tmp_path / "vllm" / "plain-1"
    assert out["vllm"].load == (
        f"vllm serve BASE --enable-lora --max-lora-rank 8 --lora-modules plain-1={folder}"
    )
    assert out["sglang"].load.endswith(f"--lora-paths plain-1={tmp_path / 'sglang' / 'plain-1'}")
    assert json.loads(out["lorax"].load) == {
        "adapter_id": str(tmp_path / "lorax" / "plain-1"),
        "adapter_source": "local",
    }
    assert f'"dynamic_lora_loading_path": "{tmp_path / "ray"}"' in out["ray"].load
    assert out["ray"].load.endswith("BASE_ID:plain-1")


def test_ollama_gets_a_modelfile_beside_the_adapter(workspace, tmp_path, fleet):
    workspace.export_for("naval@1", tmp_path / "o", "ollama", base="llama3.2")
    assert (tmp_path / "o" / "Modelfile").read_text() == "FROM llama3.2\nADAPTER .\n"
    assert (tmp_path / "o" / "adapter_model.safetensors").exists()
    workspace.export_for("naval@1", tmp_path / "p", "ollama")
    assert (tmp_path / "p" / "Modelfile").read_text().startswith(f"FROM {fleet.base}\n")


def test_llm_d_gets_the_alias_and_its_canary_as_a_rewrite(workspace, tmp_path):
    made = workspace.export_for(
        "naval@prod", tmp_path / "out", "llm-d", canary=["naval@2=10"], pool="vllm-ship"
    )
    assert made.names == ("naval-1", "naval-2")
    resource = yaml.safe_load((tmp_path / "out" / "rewrite.yaml").read_text())
    assert resource == {
        "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": {"name": "naval-prod-rewrite"},
        "spec": {
            "poolRef": {
                "group": "inference.networking.k8s.io",
                "kind": "InferencePool",
                "name": "vllm-ship",
            },
            "rules": [
                {
                    "matches": [{"model": {"type": "Exact", "value": "naval@prod"}}],
                    "targets": [
                        {"modelRewrite": "naval-1", "weight": 90},
                        {"modelRewrite": "naval-2", "weight": 10},
                    ],
                }
            ],
        },
    }
    assert all((tmp_path / "out" / name / "adapter_config.json").exists() for name in made.names)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"pool": None}, "it belongs to an InferencePool"),
        ({"canary": ["naval@2=100"]}, "from 1 to 99"),
        ({"canary": ["naval@2=2.5"]}, "whole percents"),
        ({"canary": ["naval@2=60", "medic=40"]}, "nothing is left for the alias"),
        ({"canary": ["naval@1=10"]}, "the same version"),
        ({"pool": "Bad_Pool"}, "lower-case letters"),
    ],
)
def test_a_rewrite_that_makes_no_sense_is_refused(workspace, tmp_path, how, reason):
    with pytest.raises(Refused, match=reason):
        workspace.export_for("naval@prod", tmp_path / "out", "llm-d", **({"pool": "p"} | how))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["naval", "medic", "cargo"])
def test_a_gguf_adapter_holds_the_same_updates(workspace, fleet, tmp_path, name):
    """Read back with gguf's own reader: alpha / r · B·A is PEFT's update, rows of q and k in llama.cpp's order."""
    gguf = pytest.importorskip("gguf", reason="pip install gguf")
    made = workspace.export_for(f"{name}@1", tmp_path / "a.gguf", "gguf", base=str(fleet.base))
    assert made.load == f"llama-server -m BASE.gguf --lora {tmp_path / 'a.gguf'}"
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    fields = {key: field.contents() for key, field in reader.fields.items()}
    assert fields["general.architecture"] == "llama"
    assert (fields["general.type"], fields["adapter.type"]) == ("adapter", "lora")
    found = {tensor.name: tensor.data for tensor in reader.tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    shape = BaseShape.of(json.loads((fleet.base / "config.json").read_text()), "ship")
    with Adapter.open(fleet.adapters[name], name) as adapter:
        method = fleet.plugins.method_for(adapter)
        modules = method.modules(adapter)
        assert len(found) == 2 * len(modules)
        for module in modules:
            delta = method.delta(adapter, module)
            there = names.get_name(f"{module.name}.weight", try_suffixes=(".weight",))
            A, B = found[f"{there}.lora_a"], found[f"{there}.lora_b"]
            scale = fields["adapter.lora.alpha"] / B.shape[1]  # as llama.cpp computes it
            wanted = permuted(delta.scale * delta.B @ delta.A, module.name, shape)
            np.testing.assert_allclose(scale * B @ A, wanted, atol=1e-6)


def test_rows_of_q_are_interleaved_as_llama_cpp_rotates_them():
    B = np.arange(8.0)[:, None]  # two heads of four rows
    shape = BaseShape("llama", 1, 2, 1)
    assert permuted(B, "model.layers.0.self_attn.q_proj", shape)[:, 0].tolist() == [
        0,
        2,
        1,
        3,
        4,
        6,
        5,
        7,
    ]
    assert permuted(B, "model.layers.0.mlp.up_proj", shape) is B


def test_a_base_that_llama_cpp_names_otherwise_is_refused():
    with pytest.raises(Refused, match=r"the model type is 'mamba'(?s:.*)convert_lora_to_gguf.py"):
        BaseShape.of({"model_type": "mamba"}, "ship")


@pytest.mark.parametrize(
    ("name", "engine", "reason", "fix"),
    [
        ("dora", "vllm", "use_dora is refused", "adaptkit bake dora@1"),
        ("dora", "ray", "use_dora is refused", "adaptkit bake dora@1"),
        ("fullhead", "gguf", "lm_head.weight is refused", "adaptkit strip fullhead@1 --heads"),
        ("medic", "sglang", "use_rslora is ignored", "adaptkit resize medic@1 --rank 8"),
        ("cargo", "sglang", "rank_pattern is refused", "adaptkit bake cargo@1"),
    ],
)
def test_what_an_engine_would_not_apply_is_refused(workspace, tmp_path, name, engine, reason, fix):
    with pytest.raises(Refused) as caught:
        workspace.export_for(name, tmp_path / "out.gguf", engine)
    assert reason in str(caught.value)
    assert fix in str(caught.value)
    assert not (tmp_path / "out.gguf").exists()


def test_an_unknown_engine_and_options_of_another_are_refused(workspace, tmp_path):
    with pytest.raises(NotFound, match="no engine called 'vlm': known are vllm"):
        workspace.export_for("naval", tmp_path / "out", "vlm")
    with pytest.raises(Refused, match="cannot write a canary for vllm"):
        workspace.export_for("naval", tmp_path / "out", "vllm", pool="p")
    with pytest.raises(Refused, match=r"--for gguf|it is one file"):
        workspace.export_for("naval", tmp_path / "out", "gguf")


def test_the_command_keeps_tools_and_engines_apart(workspace, tmp_path):
    line = ["--home", workspace.home.path, "export", "plain@1", "out"]
    done = run([*line, "--for", "vllm"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "load it with: vllm serve BASE" in done.stdout
    as_json = run([*line[:-1], "third", "--for", "sglang", "--json"], tmp_path)
    part = SCHEMA["commands"]["export"] | {"$defs": SCHEMA["$defs"]}
    jsonschema.validate(json.loads(as_json.stdout), part)
    assert json.loads(as_json.stdout)["names"] == ["plain-1"]
    both = run([*line[:-1], "other", "--for", "vllm", "--to", "kohya"], tmp_path)
    assert both.returncode == 2
    assert "one of them" in both.stderr
    alone = run([*line[:-1], "other", "--pool", "p"], tmp_path)
    assert "go with --for" in alone.stderr
