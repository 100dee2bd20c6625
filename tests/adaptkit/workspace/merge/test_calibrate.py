"""adaptkit.workspace.merge.calibrate: what is measured, how it is used by a merge, and how it travels."""

from __future__ import annotations

import json
from contextlib import ExitStack

import numpy as np
import pytest
import talking
import tiny
from homes import copied

from adaptkit import Workspace
from adaptkit.errors import AdaptkitError, BadRecipe, BaseMismatch, Unmergeable
from adaptkit.extend.attachments import MOMENTS
from adaptkit.merge.moments import ABOUT
from adaptkit.workspace.context.moments import kept_moments, open_moments


def seen_inputs(base, adapter, texts, name):
    """What PEFT's own layer is given, token by token, without padding."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    rows = []
    model.get_base_model().get_submodule(name).register_forward_pre_hook(
        lambda _, args: rows.append(args[0][0].double().numpy())
    )
    with torch.no_grad():
        for text in texts:
            model(torch.tensor([[1, *tokenizer.encode(text)]]))
    return np.concatenate(rows)


def calibrated(workspace, talker, tmp_path, **how):
    for name in ("naval", "medic"):
        workspace.calibrate(name, talker, tmp_path / f"{name}.jsonl", **how)
    return workspace


def test_moments_are_those_of_the_inputs_with_the_adapter_on(two, talker, talkers, tmp_path):
    data = talking.save_prompts(tmp_path / "own.jsonl", 0, 5, answer="w5 w6 w7")
    done = two.calibrate("naval", talker, data)
    texts = [
        f"{row['prompt']} {row['completion']} </s>"
        for row in map(json.loads, data.read_text().splitlines())
    ]
    assert (done.rows, done.tokens) == (5, 5 * 7)
    assert (done.modules, done.moments, done.unmeasured) == (14, 8, ())
    with ExitStack() as stack:
        moments = open_moments(two, done.digest, "naval", stack)
        for name in ("model.layers.1.self_attn.k_proj", "model.layers.0.mlp.down_proj"):
            rows = seen_inputs(talker, talkers[0], texts, name)
            found = moments.of(name, rows.shape[1])
            G = np.diag(found.diagonal) + found.factor @ found.factor.T
            wanted = rows.T @ rows / 35
            assert np.abs(G - wanted).max() < 2e-3 * np.abs(wanted).max()
        shared = {moments.about.modules[f"model.layers.0.self_attn.{p}_proj"] for p in "qkv"}
        assert len(shared) == 1


def test_a_prompt_without_an_answer_gets_the_adapters_own(two, talker, tmp_path):
    done = two.calibrate("naval", talker, tmp_path / "naval.jsonl", rows=4)
    assert done.rows == 4
    assert done.tokens > 4 * 3


def test_measuring_again_replaces_what_was_measured(two, talker, tmp_path):
    one = two.calibrate("naval", talker, tmp_path / "naval.jsonl", rows=3)
    first = kept_moments(two).of(one.digest)
    two.calibrate("naval", talker, tmp_path / "naval.jsonl", rows=3)
    assert kept_moments(two).of(one.digest) == first, "the same inputs give the same bytes"
    two.calibrate("naval", talker, tmp_path / "naval.jsonl", rows=5)
    assert len(kept_moments(two).of(one.digest)) == 1
    assert kept_moments(two).of(one.digest) != first


def test_a_merge_by_moments_is_the_formula_and_names_them_in_its_recipe(two, talker, tmp_path):
    calibrated(two, talker, tmp_path)
    merged = two.merge({"naval": 0.8, "medic": 1.0}, strategy="regmean", name="bridge")
    assert merged.report.rank == 8
    assert merged.report.error.total < 1e-6
    assert len(merged.manifest.recipe["moments"]) == 2
    module = "model.layers.1.mlp.down_proj"
    with ExitStack() as stack:
        left, whole = np.zeros((32, 48)), np.zeros((48, 48))
        for name, weight in (("naval", 0.8), ("medic", 1.0)):
            version = two.version(name)
            found = open_moments(two, version.digest, name, stack).of(module, 48)
            G = np.diag(found.diagonal) + found.factor @ found.factor.T
            G = 0.9 * G + 0.1 * np.diag(np.diag(G))
            left += weight * update(two.path(name), module) @ G
            whole += G
        wanted = left @ np.linalg.inv(whole + 1e-3 * np.diag(whole).mean() * np.eye(48))
    found = update(two.path("bridge"), module)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def update(folder, module):
    from peft import LoraConfig
    from safetensors.numpy import load_file

    config, tensors = (
        LoraConfig.from_pretrained(folder),
        load_file(folder / "adapter_model.safetensors"),
    )
    A, B = (tensors[f"base_model.model.{module}.lora_{part}.weight"] for part in "AB")
    alpha = config.alpha_pattern.get(module, config.lora_alpha)
    return alpha / A.shape[0] * B.astype(float) @ A.astype(float)


def test_adapters_without_moments_are_named_with_the_command_that_measures(two, talker, tmp_path):
    two.calibrate("naval", talker, tmp_path / "naval.jsonl")
    with pytest.raises(Unmergeable) as caught:
        two.merge(["naval", "medic"], strategy="regmean", name="bridge")
    assert str(caught.value) == (
        "'regmean' needs the moments of medic: they were not measured, or did not come along\n"
        "  adaptkit calibrate medic --base DIR --data FILE"
    )


def test_modules_that_only_one_adapter_has_keep_its_update_nearly(two, talker, tmp_path):
    folder = tiny.save_adapter(
        talker, tmp_path / "few", seed=5, r=2, lora_alpha=4, target_modules=["q_proj"]
    )
    two.add(folder, "few", base=str(talker))
    talking.save_prompts(tmp_path / "few.jsonl", 10, 8)
    calibrated(two, talker, tmp_path)
    two.calibrate("few", talker, tmp_path / "few.jsonl")
    with pytest.raises(BadRecipe, match="takes no --missing zero"):
        two.merge(["naval", "few"], strategy="regmean", missing="zero", name="bridge")
    merged = two.merge(["naval", "few"], strategy="regmean", name="bridge")
    ranks = merged.report.ranks
    assert (ranks["model.layers.0.self_attn.q_proj"], ranks["model.layers.0.mlp.up_proj"]) == (6, 4)


def test_moments_travel_with_push_pull_and_mirror(two, talker, tmp_path):
    calibrated(two, talker, tmp_path)
    urls = {place: (tmp_path / place / "naval").as_uri() for place in ("team", "copy")}
    two.push("naval", urls["team"])
    two.push("naval", urls["team"])
    two.mirror(urls["team"], urls["copy"])
    assert len(two.places.open(urls["copy"]).attached(1, MOMENTS)) == 1
    with Workspace.init(tmp_path / "reader", notify=lambda _: None) as reader:
        version = reader.pull(urls["copy"]).version
        (here,), (there,) = (kept_moments(ws).of(version.digest) for ws in (two, reader))
        assert here.name == there.name
        assert {p.name: p.read_bytes() for p in here.iterdir()} == {
            p.name: p.read_bytes() for p in there.iterdir()
        }
        two.push("medic", (tmp_path / "team" / "medic").as_uri())
        both = [urls["copy"], (tmp_path / "team" / "medic").as_uri()]
        merged = reader.merge(both, strategy="regmean", name="bridge")
    assert (
        merged.manifest.digest
        == two.merge(["naval", "medic"], strategy="regmean", name="bridge").manifest.digest
    )


@pytest.fixture(scope="module")
def home_with_moments(home_of_talkers, talker, tmp_path_factory):
    """Both adapters with their moments, to be copied."""
    folder = tmp_path_factory.mktemp("moments")
    for name, first in (("naval", 0), ("medic", 30)):
        talking.save_prompts(folder / f"{name}.jsonl", first, 20)
    with copied(home_of_talkers, folder / "home") as workspace:
        calibrated(workspace, talker, folder, rows=2)
    return folder / "home"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda about: about | {"adapter": "sha256:" + "0" * 64}, "they are of sha256:0000"),
        (lambda about: about | {"modules": {}}, "they lack the module 'model.layers"),
        (
            lambda about: about | {"modules": dict.fromkeys(about["modules"], "g0001")},
            "inputs, its moment is of",
        ),
        (lambda about: about | {"modules": dict.fromkeys(about["modules"], "x")}, "cannot be read"),
        (lambda about: about | {"schema": 9}, "schema 9 is not one this version reads"),
        (lambda _: [], "list indices"),
    ],
)
def test_moments_of_something_else_are_refused(home_with_moments, tmp_path, change, why):
    with copied(home_with_moments, tmp_path / "home") as two:
        (folder,) = kept_moments(two).of(two.version("naval").digest)
        about = json.loads((folder / ABOUT).read_text())
        (folder / ABOUT).write_text(json.dumps(change(about)))
        with pytest.raises(Unmergeable, match="cannot use the moments of naval") as caught:
            two.merge(["naval", "medic"], strategy="regmean", name="bridge")
    assert why in caught.value.why
    assert caught.value.fix.startswith("measure them again: adaptkit calibrate naval")


def test_another_base_is_refused_before_anything_is_measured(two, tmp_path):
    other = talking.save_base(tmp_path / "other")
    tiny.save_llama(other, seed=9, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    with pytest.raises(BaseMismatch, match="naval@1 and .*other are for different bases"):
        two.calibrate("naval", other, tmp_path / "naval.jsonl")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (
            b"{",
            "it is not a whole object: a row stands on one line, or all rows in one array",
        ),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"[1]", "it is [1], not an object"),
        (b'{"prompt": 3}', "'prompt' is the number 3, not a text"),
        (
            b'{"messages": [{"role": "user"}]}',
            "message 1 of 'messages' has no text in 'content'",
        ),
        (
            b'{"messages": [{"role": "assistant", "content": "x"}]}',
            "'messages' has an answer, and no question before it",
        ),
    ],
)
def test_a_line_that_is_no_prompt_is_named_by_its_number(two, talker, tmp_path, line, why):
    (tmp_path / "bad.jsonl").write_bytes(b'{"prompt": "w1"}\n\n' + line + b"\n")
    with pytest.raises(AdaptkitError) as caught:
        two.calibrate("naval", talker, tmp_path / "bad.jsonl")
    assert caught.value.what == f"line 3 of {tmp_path / 'bad.jsonl'} is no prompt"
    assert caught.value.why == why


def test_an_empty_file_and_impossible_numbers_are_refused(two, talker, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(AdaptkitError, match=r"empty\.jsonl is empty"):
        two.calibrate("naval", talker, tmp_path / "empty.jsonl")
    with pytest.raises(AdaptkitError, match="at least one row and rank 1, not 0 and 64"):
        two.calibrate("naval", talker, tmp_path / "naval.jsonl", rows=0)


def test_gc_deletes_moments_with_the_last_trace_of_their_artifact(two, talker, tmp_path):
    done = two.calibrate("naval", talker, tmp_path / "naval.jsonl", rows=2)
    two.remove("naval")
    two.gc(grace=0)
    assert len(kept_moments(two).of(done.digest)) == 1, "it can still be restored"
    two.gc(grace=0, trash=0)
    two.gc(grace=0, trash=0)
    assert kept_moments(two).of(done.digest) == []
