"""What other engines make of an adapter is listed before they get it."""

from __future__ import annotations

import json

import pytest
import tiny
from command_line import run

from adaptkit import Workspace
from adaptkit.errors import NotFound, Refused
from adaptkit.serving.engines.rules import RULES, limit_to_start, rules_of
from adaptkit.serving.preflight import preflight


def outcomes(fleet, name, engine, **how):
    with fleet.opened(name) as source:
        found = preflight(source, rules_of(engine), **how)
    return found, {f.part: f.outcome for f in found.findings if f.outcome != "applied"}


def judged(tiny_llama, folder, engine, patterns=None, **config):
    """What an engine makes of an adapter with this configuration, by part; applied parts are counted."""
    made = tiny.save_adapter(tiny_llama, folder / "made", 1, **({"r": 8} | config))
    tiny.edit_config(made, **(patterns or {}))
    with Workspace.init(folder / "home", notify=lambda _: None) as ws:
        found = ws.preflight(str(made), engine).findings
    rest = {f.part: f.outcome for f in found if f.outcome != "applied"}
    return rest, sum(f.outcome == "applied" for f in found)


@pytest.mark.parametrize("engine", RULES)
def test_plain_lora_is_applied_by_every_engine(tiny_llama, tmp_path, engine):
    rest, applied = judged(tiny_llama, tmp_path, engine, target_modules=["q_proj", "v_proj"])
    assert (rest, applied) == ({}, 4)  # two layers of two modules


@pytest.mark.parametrize(
    ("targets", "refused"),
    [
        (["q_proj"], {"q_proj"}),
        (["v_proj", "o_proj"], {"v_proj"}),
        (["q_proj", "k_proj"], {"q_proj", "k_proj"}),
        (["q_proj", "k_proj", "v_proj"], set()),
        (["up_proj", "down_proj"], {"up_proj"}),
        (["gate_proj"], set()),
    ],
)
def test_sglang_reads_a_part_of_a_fused_matrix_only_beside_the_others(
    tiny_llama, tmp_path, targets, refused
):
    rest, _ = judged(tiny_llama, tmp_path, "sglang", target_modules=targets)
    assert set(rest.values()) <= {"refused"}
    assert {part.rpartition(".")[2] for part in rest} == refused


@pytest.mark.parametrize(
    ("engine", "rank", "targets", "rest"),
    [
        ("lorax", 4, ["q_proj"], {"rank 4": "ignored"}),
        ("tgi", 24, ["q_proj"], {"rank 24": "ignored"}),
        ("tgi", 32, ["q_proj"], {}),
        ("vllm", 4, ["q_proj"], {}),
    ],
)
def test_a_rank_that_is_padded_gets_another_scale(
    tiny_llama, tmp_path, engine, rank, targets, rest
):
    limit = {"r": rank, "target_modules": targets}
    assert judged(tiny_llama, tmp_path, engine, **limit)[0] == rest


@pytest.mark.parametrize("engine", ["lorax", "tgi"])
def test_a_kind_of_layer_that_some_blocks_lack_is_left_out_by_lorax_and_tgi(
    tiny_llama, tmp_path, engine
):
    targets = r".*\.(0\.self_attn\.q_proj|self_attn\.v_proj)"
    rest, applied = judged(tiny_llama, tmp_path, engine, target_modules=targets)
    assert [part.rpartition(".")[2] for part in rest] == ["q_proj"]
    assert applied == 2
    rest, applied = judged(tiny_llama, tmp_path / "b", "vllm", target_modules=targets)
    assert (rest, applied) == ({}, 3)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
@pytest.mark.parametrize(
    ("engine", "outcome", "copy"),
    [
        ("sglang", "applied", "ignored"),
        ("lorax", "ignored", "ignored"),
        ("tgi", "ignored", "ignored"),
        ("llamacpp", "applied", "ignored"),
        ("ollama", "refused", "refused"),
    ],
)
def test_updates_of_embeddings_and_the_copies_beside_them(
    tiny_llama, tmp_path, engine, outcome, copy
):
    rest, _ = judged(tiny_llama, tmp_path, engine, target_modules=["embed_tokens"])
    found = {part.rpartition("embed_tokens")[2]: what for part, what in rest.items()}
    assert found.pop(".base_layer.weight") == copy
    assert found == ({} if outcome == "applied" else {"": outcome})


@pytest.mark.parametrize(
    ("engine", "config", "part", "outcome"),
    [
        ("sglang", {"target_modules": r".*[qv]_proj"}, r"target_modules .*[qv]_proj", "refused"),
        ("sglang", {"target_modules": "all-linear"}, None, None),
        ("ollama", {"lora_alpha": 16.0}, "lora_alpha 16.0", "refused"),
        ("llamacpp", {"lora_alpha": 16.0}, None, None),
        ("tgi", {"alpha_pattern": {"q_proj": 4}}, "alpha_pattern", "ignored"),
        ("tgi", {"lora_bias": True}, "lora_bias", "ignored"),
        ("tgi", {"use_rslora": True}, None, None),
    ],
)
def test_what_engines_make_of_a_configuration(tiny_llama, tmp_path, engine, config, part, outcome):
    rest, _ = judged(tiny_llama, tmp_path, engine, config, target_modules=["q_proj", "v_proj"])
    assert rest == ({part: outcome} if part else {})


def test_what_is_plain_lora_when_it_is_written_out_has_that_as_its_way_out(tiny_llama, tmp_path):
    config = {"r": 8, "target_modules": r".*[qv]_proj", "rank_pattern": {"v_proj": 4}}
    made = tiny.save_adapter(tiny_llama, tmp_path / "one", 1, **config)
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        ws.add(made, "one", base=str(tiny_llama))
        fixes = [f.fix for f in ws.preflight("one", "sglang").findings if f.fix]
        assert fixes == [
            "adaptkit resize one --rank 4 writes plain LoRA",
            "adaptkit resize one --rank 8 writes plain LoRA",
        ]
        ws.resize("one", rank=4, name="plain")
        assert ws.preflight("plain", "sglang").whole


def test_what_is_refused_and_what_is_ignored_differs_by_engine(fleet):
    assert outcomes(fleet, "dora", "vllm")[1] == {"use_dora": "refused"} | dict.fromkeys(
        (f.part for f in outcomes(fleet, "dora", "vllm")[0].findings if "magnitude" in f.part),
        "refused",
    )
    assert outcomes(fleet, "cargo", "vllm")[1] == {}
    assert outcomes(fleet, "cargo", "sglang")[1]["rank_pattern"] == "refused"
    assert outcomes(fleet, "dora", "lorax")[1]["use_dora"] == "ignored"
    assert outcomes(fleet, "cargo", "llamacpp")[1] == {}
    assert outcomes(fleet, "medic", "llamacpp")[1] == {"use_rslora": "ignored"}
    found, rest = outcomes(fleet, "fullhead", "vllm")
    assert rest == {"base_model.model.lm_head.weight": "refused"}
    assert not found.loads
    assert outcomes(fleet, "fullhead", "lorax")[0].loads


def test_a_rank_above_the_engines_limit_is_refused_with_its_flag(fleet):
    found, rest = outcomes(fleet, "medic", "vllm", rank_limit=1)
    assert rest == {"rank 8": "refused"}
    assert found.findings[0].fix == "--max-lora-rank 8, or adaptkit resize medic --rank 1"
    assert outcomes(fleet, "medic", "sglang", rank_limit=4)[1]["rank 8"] == "refused"


def test_a_limit_that_an_engine_does_not_know_is_the_next_one_that_it_does(fleet):
    assert outcomes(fleet, "medic", "vllm", rank_limit=4)[1] == {}  # vLLM is started with 8
    limits = {asked: limit_to_start("vllm", asked) for asked in (1, 2, 8, 20, 257, 512)}
    assert limits == {1: 1, 2: 8, 8: 8, 20: 32, 257: 320, 512: 512}
    assert limit_to_start("sglang", 20) == limit_to_start("an engine without rules", 20) == 20


def test_a_limit_above_the_engines_largest_is_refused_with_those_it_knows():
    with pytest.raises(
        Refused, match=r"cannot start vllm for ranks up to 513(?s:.*)256, 320, 512(?s:.*)resize"
    ):
        limit_to_start("vllm", 513)


def test_a_rank_above_the_engines_largest_has_no_flag_that_would_help(tiny_llama, tmp_path):
    made = tiny.save_adapter(tiny_llama, tmp_path / "cargo", 1, r=4, target_modules=["q_proj"])
    tiny.edit_config(made, rank_pattern={"no_layer": 300})
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        (above,) = (f for f in ws.preflight(str(made), "vllm").findings if f.fix)
        assert above.fix.startswith("--max-lora-rank 320, or adaptkit resize ")
        tiny.edit_config(made, rank_pattern={"no_layer": 600})
        (above,) = (f for f in ws.preflight(str(made), "vllm", rank_limit=600).findings if f.fix)
        assert above.fix.startswith("adaptkit resize ")
        assert above.fix.endswith(" --rank 512")


def test_the_rank_that_counts_is_the_one_that_the_configuration_names(tiny_llama, tmp_path):
    made = tiny.save_adapter(tiny_llama, tmp_path / "cargo", 1, r=4, target_modules=["q_proj"])
    tiny.edit_config(made, rank_pattern={"no_layer": 32})
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        found = ws.preflight(str(made), "vllm")
    assert [(f.part, f.outcome) for f in found.findings if f.outcome != "applied"] == [
        ("rank 32", "refused")
    ]


@pytest.mark.parametrize(
    ("config", "part", "outcome"),
    [
        ({"bias": "all"}, "bias all", "refused"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights pissa", "refused"),
        ({"init_lora_weights": "olora"}, "init_lora_weights olora", "refused"),
        ({"init_lora_weights": "gaussian"}, None, None),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens", "refused"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication", "refused"),
        ({"kasa_config": {"beta": 0.1}}, "kasa_config", "refused"),
    ],
)
def test_what_vllm_does_not_know_of_a_configuration_is_found(
    tiny_llama, tmp_path, config, part, outcome
):
    made = tiny.save_adapter(tiny_llama, tmp_path / "one", 1, r=4, target_modules=["q_proj"])
    tiny.edit_config(made, **config)
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        found = ws.preflight(str(made), "vllm")
    rest = {f.part: f.outcome for f in found.findings if f.outcome != "applied"}
    assert rest == ({part: outcome} if part else {})


def test_an_adapter_that_changes_the_base_when_it_is_loaded_has_a_way_out(tiny_llama, tmp_path):
    config = {"r": 4, "target_modules": ["q_proj"], "init_lora_weights": "olora"}
    made = tiny.save_adapter(tiny_llama, tmp_path / "one", 1, **config)
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        ws.add(made, "one", base=str(tiny_llama))
        (finding,) = (f for f in ws.preflight("one", "vllm").findings if f.fix)
        assert finding.fix == "adaptkit resize one --base DIR --rank 8 writes plain LoRA"
        ws.resize("one", rank=8, base=str(tiny_llama), name="plain")
        assert ws.preflight("plain", "vllm").whole


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
def test_a_copy_of_the_base_beside_an_update_of_it_is_not_read_by_vllm(tiny_llama, tmp_path):
    config = {"r": 4, "target_modules": ["q_proj", "lm_head"]}
    made = tiny.save_adapter(tiny_llama, tmp_path / "one", 1, **config)
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        ws.add(made, "one", base=str(tiny_llama))
        (finding,) = (f for f in ws.preflight("one", "vllm").findings if f.outcome != "applied")
        assert finding.part == "base_model.model.lm_head.base_layer.weight"
        assert finding.outcome == "ignored"
        assert finding.fix.endswith("adaptkit strip one --heads leaves it out")
        ws.strip("one", heads=True, base=str(tiny_llama), name="plain")
        assert ws.preflight("plain", "vllm").whole


def test_every_rule_has_a_version_and_a_source():
    for rules in RULES.values():
        assert rules.version
        each = [
            rules.rank,
            rules.extras,
            rules.experts,
            *filter(None, (rules.copies, rules.heads, rules.others, rules.alone)),
            *filter(None, (rules.in_part, rules.padded)),
            *rules.whole_numbers.values(),
            *(values.others for values in rules.values.values()),
            *rules.flags.values(),
            *rules.layers.values(),
        ]
        for source in (rules.source, *(rule.source for rule in each)):
            assert source.startswith("https://")


def test_every_finding_has_the_version_and_the_source_of_its_rule(fleet):
    for engine, rules in RULES.items():
        for name in ("naval", "dora", "fullhead", "cargo"):
            found, _ = outcomes(fleet, name, engine)
            assert {finding.version for finding in found.findings} == {rules.version}
            assert all(finding.source.startswith("https://") for finding in found.findings)
            assert all(finding.reason for finding in found.findings if finding.outcome != "applied")


def test_an_unknown_engine_lists_the_known_ones():
    with pytest.raises(NotFound, match="no engine called 'vlm': known are vllm"):
        rules_of("vlm")


def test_the_command_prints_what_is_not_applied_and_fails_when_it_does_not_load(fleet, tmp_path):
    line = ["--home", "home", "preflight", fleet.adapters["fullhead"], "--for", "vllm"]
    done = run(line, tmp_path)
    assert done.returncode == 1
    assert "does not load in vllm 0.33: 2 modules are applied" in done.stdout
    assert (
        "refused: base_model.model.lm_head.weight: it is no low-rank update (https" in done.stdout
    )
    as_json = run([*line[:-1], "lorax", "--json"], tmp_path)
    assert as_json.returncode == 0
    assert json.loads(as_json.stdout)["loads"] is True


def test_an_engine_that_is_not_installed_is_named_with_what_to_install(tmp_path):
    line = ["--home", "home", "serve", "--base", "ship", "--engine", "vllm"]
    done = run(line, tmp_path, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "cannot start the engine 'vllm': the program 'vllm' is not installed" in done.stderr
    assert "pip install vllm" in done.stderr
    unknown = run([*line[:-1], "vlm"], tmp_path)
    assert "no engine called 'vlm': known is vllm" in unknown.stderr
