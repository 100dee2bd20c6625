"""adaptkit plot parameters, training and forgetting, as typed."""

from __future__ import annotations

import json

import pytest

from adaptkit import Workspace
from adaptkit.cli import main


@pytest.fixture
def typed(tmp_path, capsys):
    with Workspace.init(tmp_path / "ship", notify=lambda _: None) as ws:
        home = ws.home.path

    def run(*words):
        code = main(["--home", str(home), *map(str, words)])
        return code, capsys.readouterr()

    run.home = home
    return run


def test_full_fine_tuning_of_one_matrix_is_256_times_lora_of_rank_8(typed, tmp_path):
    png = tmp_path / "p.png"
    code, shown = typed("plot", "parameters", "--rank", 8, "--out", png)
    assert code == 0
    assert shown.out.splitlines() == [
        "one 4096×4096 matrix: full fine-tuning 16,777,216 parameters",
        "  LoRA of rank 8: 65,536, 256.0 times fewer",
        str(png),
    ]
    assert png.read_bytes().startswith(b"\x89PNG")


def test_the_modules_of_a_base_are_counted_by_set(typed, tmp_path, tiny_llama):
    line = ["plot", "parameters", "--base", tiny_llama, "--rank", 2, "--rank", 4]
    code, shown = typed(*line, "--out", tmp_path / "p.png", "--json")
    assert code == 0
    found = {one["targets"]: one for one in json.loads(shown.out)["parameters"]}
    # 2 layers of hidden 32 and inner 48: q, k, v, o of 32×32; gate, up of 48×32; down of 32×48
    assert found["q and v"]["full"] == 2 * 2 * 32 * 32
    assert found["all linear"]["full"] == 2 * (4 * 32 * 32 + 3 * 48 * 32)
    assert found["all linear"]["lora"]["4"]["parameters"] == 4 * 2 * (4 * 64 + 3 * 80)
    assert found["all linear"]["matrices"] == 14


def test_a_counted_number_is_what_peft_trains(typed, tmp_path, tiny_llama):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    model = get_peft_model(
        LlamaForCausalLM.from_pretrained(tiny_llama), LoraConfig(r=4, target_modules="all-linear")
    )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    line = ["plot", "parameters", "--base", tiny_llama, "--rank", 4, "--out", tmp_path / "p.png"]
    found = json.loads(typed(*line, "--json")[1].out)["parameters"]
    assert found[-1]["lora"]["4"]["parameters"] == trained


def test_training_and_forgetting_are_drawn_from_what_was_recorded(typed, tmp_path, speaker):
    rows = [{"prompt": f"hull {v}?", "completion": f"Hull {v}."} for v in range(20, 40)]
    data = tmp_path / "naval.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Workspace.open(typed.home, notify=lambda _: None) as ws:
        trained = ws.train(
            "naval", base=speaker, data=data, steps=3, batch=4, rank=2, calibrate=False
        )
        ws.note("naval", metrics={"polite.forgetting": 0.25})
    png = tmp_path / "t.png"
    code, shown = typed("plot", "training", "naval", "--out", png, "--json")
    assert code == 0
    assert json.loads(shown.out)["curves"] == {"naval@1": list(map(list, trained.facts["curve"]))}
    assert png.read_bytes().startswith(b"\x89PNG")
    code, shown = typed("plot", "forgetting", "naval", "--out", png, "--json")
    assert json.loads(shown.out)["forgetting"] == {"naval@1": {"polite": 0.25}}


def test_what_was_never_measured_is_named_with_the_command_that_measures_it(
    typed, tmp_path, tiny_llama, lora_pair
):
    with Workspace.open(typed.home, notify=lambda _: None) as ws:
        ws.add(lora_pair[0], "naval", base=str(tiny_llama))
    code, shown = typed("plot", "training", "naval", "--out", tmp_path / "t.png")
    assert code == 1
    assert "no loss curve called 'naval@1'" in shown.err
    code, shown = typed("plot", "forgetting", "naval", "--out", tmp_path / "t.png")
    assert code == 1
    assert "adaptkit eval naval@1 --baseline base --suite FILE --base DIR" in shown.err


def test_wrong_usage_says_what_is_missing(typed, tmp_path):
    code, shown = typed("plot", "training", "--out", tmp_path / "t.png")
    assert code == 2
    assert "REF" in shown.err
    code, shown = typed("plot", "parameters", "naval", "--out", tmp_path / "t.png")
    assert code == 2
    assert "plot parameters takes no adapters" in shown.err
    code, shown = typed("plot", "parameters", "--rank", 0, "--out", tmp_path / "t.png")
    assert code == 1
    assert "--rank is 0" in shown.err
