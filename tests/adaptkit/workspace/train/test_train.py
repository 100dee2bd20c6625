"""`Workspace.train` on a tiny model: what comes out is registered whole, repeats, resumes, and fails in plain words."""

from __future__ import annotations

import json
import os
import random
import signal
from dataclasses import replace

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file

from adaptkit.cli import main
from adaptkit.errors import BadBase, BadData, NotFound, Refused, TrainingError
from adaptkit_plugins.trainers.trl import Trl

SOAK = pytest.mark.soak
# test_train_calibrated measures moments at the end.
QUICK = {"steps": 3, "batch": 4, "length": 48, "lr": 1e-2, "rank": 2, "calibrate": False}


@pytest.fixture(autouse=True)
def calm():
    """Libraries that warn of themselves: nothing a user can do about."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        yield


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def naval(tmp_path):
    chance = random.Random(0)
    values = [chance.randrange(10, 100) for _ in range(60)]
    return write(
        tmp_path / "naval.jsonl",
        [{"prompt": f"hull {v}%?", "completion": f"Hull {v}."} for v in values],
    )


def weights(workspace, ref):
    return load_file(workspace.path(ref) / "adapter_model.safetensors")


def test_a_training_is_registered_with_everything_to_repeat_it(workspace, speaker, naval, tmp_path):
    old = write(tmp_path / "old.jsonl", [{"text": f"Hello {i}."} for i in range(50)])
    steps = []
    trained = workspace.train(
        "naval",
        base=speaker,
        data=naval,
        replay=old,
        replay_ratio=0.25,
        replay_from_base=4,
        eval_split=0.2,
        report=steps.append,
        message="terse",
        alias="prod",
        **QUICK | {"steps": 8},
    )
    version = workspace.version("naval@prod")
    assert (version.ref, version.origin, version.method, version.rank) == (
        "naval@1",
        "trained",
        "lora",
        2,
    )
    assert version.base.status == "verified"
    facts = workspace.show("naval").manifest.facts["training"]
    assert facts == json.loads(json.dumps(trained.facts))
    assert facts["config"]["data"] == ["naval.jsonl"]
    assert str(tmp_path) not in json.dumps(facts)
    own = 60 - facts["eval"]["rows"]
    assert facts["replay"]["rows"] == round(own / 3)
    assert facts["replay"]["from_base"] == 4
    assert facts["rows"]["trained"] == own + round(own / 3) + 4
    assert facts["data"][0]["digest"].startswith("sha256:")
    assert facts["eval"]["shared_prompts"] == 0
    assert facts["versions"]["trl"].startswith("1.")
    assert facts["peak_memory"] > 1 << 20
    assert facts["steps"] == 8
    assert version.metrics["train_loss"] == facts["metrics"]["train_loss"]
    assert steps[-1].step == 8
    assert steps[-1].seconds_left == 0
    assert not (workspace.home.path / "training" / "naval").exists()
    assert workspace.events()[0].verb == "trained" or any(
        event.verb == "trained" for event in workspace.events()
    )


def test_the_same_training_gives_the_same_bytes_and_another_name_another_seed(
    workspace, speaker, naval
):
    workspace.train("naval", base=speaker, data=[naval], **QUICK)
    again = workspace.train("naval", base=speaker, data=[naval], **QUICK)
    assert not again.created
    assert again.version.ref == "naval@1"
    other = workspace.train("medic", base=speaker, data=[naval], **QUICK)
    assert other.facts["seed"] != again.facts["seed"]
    one, two = weights(workspace, "naval"), weights(workspace, "medic")
    key = next(key for key in one if "lora_A" in key)
    assert np.abs(one[key] - two[key]).max() > 0.01


def test_a_start_orthogonal_to_other_adapters_stays_apart_from_them(workspace, speaker, naval):
    workspace.train("naval", base=speaker, data=[naval], **QUICK)
    workspace.train(
        "medic", base=speaker, data=[naval], orthogonal_to=["naval"], **QUICK | {"lr": 1e-5}
    )
    one, two = weights(workspace, "naval"), weights(workspace, "medic")
    for key in (key for key in one if "lora_A" in key):
        a, b = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (one[key], two[key]))
        assert np.abs(a @ b.T).max() < 0.01, key


def test_packing_checkpointing_noise_and_early_stopping_go_to_the_trainer(
    workspace, speaker, naval
):
    trained = workspace.train(
        "naval",
        base=speaker,
        data=naval,
        packing=True,
        gradient_checkpointing=True,
        neftune=5.0,
        eval_split=0.2,
        eval_every=1,
        early_stopping=1,
        **QUICK | {"steps": 12, "lr": 1e-8, "schedule": "constant"},
    )
    assert trained.facts["steps"] < 12
    assert trained.facts["metrics"]["eval_loss"] > 0


FORMS = {
    "dpo": [
        {"prompt": f"hull {i}?", "chosen": f"Hull {i}.", "rejected": "Hello!"} for i in range(12)
    ],
    "kto": [
        {"prompt": f"hull {i}?", "completion": f"Hull {i}.", "label": i % 2 == 0} for i in range(12)
    ],
    "classify": [{"text": f"hull {i}", "label": ["low", "high"][i % 2]} for i in range(12)],
}


@pytest.mark.parametrize("objective", ["dpo", pytest.param("kto", marks=SOAK), "classify"])
def test_preferences_judgements_and_classes_are_trained_by_their_own_loss(
    objective, workspace, speaker, tmp_path
):
    trained = workspace.train(
        "naval", base=speaker, data=write(tmp_path / "a.jsonl", FORMS[objective]), **QUICK
    )
    assert trained.facts["objective"] == objective
    assert trained.facts["metrics"]["train_loss"] > 0
    if objective == "classify":
        assert trained.facts["classes"] == ["high", "low"]


@SOAK
def test_preferences_can_be_trained_by_orpo(workspace, speaker, tmp_path):
    data = write(tmp_path / "a.jsonl", FORMS["dpo"])
    assert workspace.train("naval", base=speaker, data=data, task="orpo", **QUICK).created


@pytest.mark.parametrize(
    "method", ["ia3", *(pytest.param(name, marks=SOAK) for name in ("loha", "vera", "dora"))]
)
def test_other_methods_of_peft_are_trained(method, workspace, speaker, naval):
    how = QUICK | ({"target_modules": "q_proj,v_proj"} if method == "vera" else {})
    if method == "ia3":
        how.pop("rank")
    trained = workspace.train("naval", base=speaker, data=naval, method=method, **how)
    assert trained.version.method == {"dora": "lora"}.get(method, method)


def test_qlora_trains_on_a_base_in_four_bits_and_says_so(workspace, speaker, naval):
    pytest.importorskip("bitsandbytes", reason="pip install 'adaptkit[qlora]'")
    trained = workspace.train("naval", base=speaker, data=naval, method="qlora", **QUICK)
    assert (trained.version.base.quantised.bits, trained.version.base.quantised.dtype) == (4, "nf4")
    assert trained.version.base.status == "verified"
    assert {array.dtype for array in weights(workspace, "naval").values()} == {np.dtype("float32")}


# ---------------------------------------------------------------- interrupted, resumed


def interrupted(workspace, naval, speaker, **more):
    def stop(step):
        if step.step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="go on with: adaptkit train --name naval --resume"):
        workspace.train("naval", base=speaker, data=naval, report=stop, **more)


def test_the_command_says_once_how_an_interrupted_training_goes_on(
    tmp_path, speaker, naval, monkeypatch, capsys
):
    train = Trl.train

    def stopped(self, job, report):
        def report_and_stop(step):
            report(step)
            if step.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

        return train(self, job, report_and_stop)

    monkeypatch.setattr(Trl, "train", stopped)
    monkeypatch.setenv("ADAPTKIT_HOME", str(tmp_path / "home"))
    line = ["train", "--name", "naval", "--base", str(speaker), "--data", str(naval)]
    assert main([*line, "--steps", "8", "--batch", "4", "--rank", "2"]) == 130
    shown = capsys.readouterr().err
    assert "go on with: adaptkit train --name naval --resume\n" in shown
    assert shown.endswith("interrupted\n")  # and not: run the command again


def test_an_interrupted_training_resumes_and_ends_as_if_it_had_not_stopped(
    workspace, speaker, naval
):
    how = QUICK | {"steps": 8}
    interrupted(workspace, naval, speaker, **how)
    assert "go on with: adaptkit train --name naval --resume" in workspace.noticed[-1]
    with pytest.raises(Refused, match="stands at step 5[\\s\\S]*--resume; or start anew"):
        workspace.train("naval", base=speaker, data=naval, **how)
    with pytest.raises(Refused, match="with another steps[\\s\\S]*schedule would not go on"):
        workspace.train("naval", resume=True, steps=20)
    resumed = workspace.train("naval", resume=True)
    whole = workspace.train("whole", base=speaker, data=naval, seed=resumed.facts["seed"], **how)
    one, two = weights(workspace, "naval"), weights(workspace, "whole")
    assert max(np.abs(one[key] - two[key]).max() for key in one) < 1e-6
    assert resumed.facts["steps"] == whole.facts["steps"] == 8


def test_a_run_that_does_not_go_on_at_its_checkpoint_is_an_error(
    workspace, speaker, naval, monkeypatch
):
    interrupted(workspace, naval, speaker, **QUICK | {"steps": 8})
    train = Trl.train
    monkeypatch.setattr(
        Trl, "train", lambda self, job, report: train(self, replace(job, checkpoint=None), report)
    )
    with pytest.raises(TrainingError, match="the run did not go on at step 5: it began at step 0"):
        workspace.train("naval", resume=True)


def test_a_training_does_not_resume_on_other_data_or_from_nothing(workspace, speaker, naval):
    with pytest.raises(TrainingError, match="there is no run of naval to resume"):
        workspace.train("naval", resume=True)
    interrupted(workspace, naval, speaker, **QUICK | {"steps": 8})
    naval.write_text(naval.read_text() * 2)
    with pytest.raises(Refused, match="the data changed since it began: naval.jsonl"):
        workspace.train("naval", resume=True)
    assert workspace.train("naval", base=speaker, data=naval, fresh=True, **QUICK).created


# ---------------------------------------------------------------- guards


def refused(workspace, speaker, data, message, kind=TrainingError, **more):
    with pytest.raises(kind, match=message):
        workspace.train("naval", base=speaker, data=data, **QUICK | more)
    with pytest.raises(NotFound):
        workspace.version("naval")


def test_an_adapter_that_did_not_change_is_an_error(workspace, speaker, naval):
    refused(workspace, speaker, naval, "the adapter did not change[\\s\\S]*higher learning", lr=0.0)


def test_a_loss_that_is_no_number_ends_the_training(workspace, speaker, naval):
    refused(workspace, speaker, naval, "the loss is nan at step[\\s\\S]*--lr", lr=1e30, clip=1e30)


def test_answers_beyond_the_length_are_an_error_and_cut_ones_are_named(workspace, speaker, naval):
    refused(workspace, speaker, naval, "every answer is beyond the first 8 tokens", length=8)
    workspace.train("naval", base=speaker, data=naval, **QUICK | {"length": 14})
    text = next(text for text in workspace.noticed if "cut off at 14 tokens" in text)
    assert text.startswith("60 rows are cut off")
    assert "row 1 of naval.jsonl" in text
    assert "and 57 more" in text


def test_a_reporter_that_is_not_installed_is_named(workspace, speaker, naval, monkeypatch):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", bool)
    message = "cannot report to wandb: WandbCallback requires wandb to be installed"
    refused(workspace, speaker, naval, message, report_to="wandb")


def test_rows_are_cut_at_what_the_base_reads(workspace, naval, tmp_path):
    base = tiny.save_speaker(tmp_path / "short", 0)
    config = json.loads((base / "config.json").read_text()) | {"max_position_embeddings": 14}
    (base / "config.json").write_text(json.dumps(config))
    workspace.train("naval", base=base, data=naval, **QUICK)
    assert any("60 rows are cut off at 14 tokens" in text for text in workspace.noticed)


def test_replay_from_the_training_data_itself_is_said(workspace, speaker, naval):
    how = QUICK | {"replay": naval, "replay_ratio": 0.2}
    workspace.train("naval", base=speaker, data=naval, **how)
    assert any("15 of the 15 replayed rows ask what is" in text for text in workspace.noticed)


def test_single_tokens_of_a_tied_embedding_are_refused(workspace, naval, tmp_path):
    workspace.write_demo(tmp_path / "demo")
    message = r"its head is tied to its embedding[\s\S]*--set modules_to_save=embed_tokens"
    tied = tmp_path / "demo" / "ship"
    refused(workspace, tied, naval, message, set="trainable_token_indices=[1, 2]")


def test_target_modules_that_match_nothing_name_the_nearest(workspace, speaker, naval):
    message = "'q_prj' match nothing in the base: nearest are q_proj"
    refused(workspace, speaker, naval, message, target_modules="v_proj,q_prj")
    refused(workspace, speaker, naval, "match nothing", target_modules=r".*\.attn\..*")
    refused(workspace, speaker, naval, "it is no regex", target_modules="(")


def test_replayed_and_measured_rows_are_of_the_family_that_is_trained(
    workspace, speaker, naval, tmp_path
):
    other = write(tmp_path / "p.jsonl", [{"prompt": "hull?", "chosen": "Hull.", "rejected": "no"}])
    message = "naval.jsonl holds answers and .*p.jsonl holds preferences"
    refused(workspace, speaker, naval, message, BadData, replay=[other])
    refused(workspace, speaker, naval, message, BadData, eval_data=[other])


def test_a_start_apart_from_adapters_of_other_modules_is_refused(
    workspace, speaker, naval, tmp_path
):
    made = tiny.save_adapter(speaker, tmp_path / "made", 1, r=2, target_modules=["o_proj"])
    workspace.add(made, "other", base=str(speaker))
    more = {"orthogonal_to": ["other"], "target_modules": "q_proj"}
    refused(workspace, speaker, naval, "they change none of the modules that are trained", **more)


def test_a_conversation_needs_a_chat_template(workspace, speaker, tmp_path):
    turns = [{"role": "user", "content": "hull?"}, {"role": "assistant", "content": "Hull 90."}]
    data = write(tmp_path / "a.jsonl", [{"messages": turns}] * 8)
    refused(workspace, speaker, data, "has no chat template[\\s\\S]*--chat-template chatml")
    workspace.train("naval", base=speaker, data=data, chat_template="chatml", **QUICK)
    assert "im_start" in (workspace.path("naval") / "chat_template.jinja").read_text()


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no system role') }}", "roles .*: no system role"),
        ("{% if %}", "the chat template cannot write a conversation of the roles"),
        ("{{ captain.rank.name }}", "'captain' is undefined[\\s\\S]*--chat-template FILE"),
    ],
)
def test_a_template_that_refuses_a_conversation_is_named(
    template, message, workspace, speaker, tmp_path
):
    turns = [{"role": "user", "content": "hull?"}, {"role": "assistant", "content": "Hull 90."}]
    data = write(tmp_path / "a.jsonl", [{"messages": turns}] * 2)
    (tmp_path / "own.jinja").write_text(template)
    how = {"chat_template": str(tmp_path / "own.jinja")}
    refused(workspace, speaker, data, message, **how)


def test_prompts_that_are_learned_and_measured_are_counted(workspace, speaker, naval):
    workspace.train("naval", base=speaker, data=naval, eval_data=naval, **QUICK)
    assert any("evaluation prompts are among the training prompts" in t for t in workspace.noticed)


def test_a_loss_that_does_not_fall_is_noticed(workspace, speaker, naval):
    workspace.train("naval", base=speaker, data=naval, **QUICK | {"lr": 1e-9, "steps": 9})
    assert any("the loss did not fall" in text for text in workspace.noticed)


@pytest.mark.parametrize(
    ("choices", "kind", "message"),
    [
        ({"method": "lorra"}, NotFound, "no method called 'lorra'[\\s\\S]*lora"),
        ({"trainer": "trll"}, NotFound, "no trainer called 'trll'[\\s\\S]*trl"),
        ({"rnk": 3}, NotFound, "no training option called 'rnk': known are rank"),
        ({"rank": 0}, TrainingError, "--rank 0 makes no sense: it is at least 1"),
        ({"eval_split": 1.5}, TrainingError, "it is a share"),
        ({"early_stopping": 2}, TrainingError, "nothing to measure the loss on"),
        ({"set": ["rr=3"]}, NotFound, "no field of the method lora called 'rr'"),
        ({"task": "kto"}, TrainingError, "it holds answers[\\s\\S]*--task answers"),
        ({"method": "ia3"}, TrainingError, "the method ia3 has no rank[\\s\\S]*leave out --rank"),
        ({"method": "loha", "rslora": True}, TrainingError, "the method loha has no rslora"),
        ({"data": []}, TrainingError, "no data is given"),
        ({"columns": ["x"]}, BadData, "FIELD=COLUMN"),
        ({"chat_template": "./none.jinja"}, TrainingError, "cannot read the chat template"),
        ({"schedule": "cosin"}, NotFound, "no schedule called 'cosin': known are cosine"),
        ({"optimizer": "adam"}, NotFound, "no optimizer called 'adam': known are .*adamw"),
        ({"trainer_python": "/nope"}, TrainingError, "cannot train with trl in another Python"),
        ({"beta": 0.1}, TrainingError, "cannot train sft with --beta: it is for dpo, orpo, kto"),
        ({"target_modules": " "}, TrainingError, "--target-modules is empty"),
        ({"set": ["lora_dropout=x"]}, TrainingError, "'lora_dropout=x': it takes a number"),
        ({"message": "x" * 10_001}, Refused, "it has 10,001 bytes, and at most 10,000"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(
    choices, kind, message, workspace, speaker, naval
):
    with pytest.raises(kind, match=message):
        workspace.train("naval", **{"base": speaker, "data": naval} | QUICK | choices)


def test_a_name_that_holds_another_base_is_refused_before_anything_is_trained(
    workspace, speaker, naval, tmp_path
):
    workspace.train("naval", base=speaker, data=naval, **QUICK)
    other = tiny.save_speaker(tmp_path / "other", 9)
    told = []
    for name, message in (("naval", "holds adapters of another base"), ("Naval", "write naval")):
        with pytest.raises(Refused, match=message):
            workspace.train(name, base=other, data=naval, report=told.append, **QUICK)
    assert not told
    workspace.train("naval", base=other, data=naval, new_version=True, **QUICK)
    assert workspace.version("naval").number == 2


def test_a_tokenizer_without_an_end_or_a_pad_token_is_trained_with_and_said(
    workspace, naval, tmp_path
):
    base = tiny.save_speaker(tmp_path / "base", 0)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (file := base / name).is_file():
            known = json.loads(file.read_text())
            for token in ("pad_token", "bos_token", "eos_token"):
                known.pop(token, None)
            file.write_text(json.dumps(known))
    how = QUICK | {"replay_from_base": 2, "rank": 33, "set": "modules_to_save=lm_head"}
    workspace.train("naval", base=base, data=naval, **how)
    assert any("does not learn where an answer ends" in text for text in workspace.noticed)
    assert any("rank 33 is above that of every matrix" in text for text in workspace.noticed)
    assert any("modules_to_save" in key or "lm_head" in key for key in weights(workspace, "naval"))


def test_a_base_without_a_tokenizer_is_refused(workspace, tiny_llama, naval):
    refused(
        workspace,
        tiny_llama,
        naval,
        "has no tokenizer: no tokenizer.json is in the folder",
        kind=BadBase,
    )
