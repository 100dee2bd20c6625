"""Baking against PEFT's own merge, interrupted, resumed, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import tiny
from concurrency import killed
from safetensors.numpy import load_file

from adaptkit import Workspace
from adaptkit.errors import BakeError, BaseMismatch, NotFound, Refused


@pytest.fixture
def bake(workspace):
    """Bakes a folder without asking whether the base is the adapter's."""

    def run(adapter, base, out, **how):
        return workspace.bake(str(adapter), base, out, force=True, **how).report

    return run


def sharded(base, folder, size="40KB"):
    from transformers import LlamaForCausalLM

    LlamaForCausalLM.from_pretrained(base).save_pretrained(folder, max_shard_size=size)
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def weights(folder):
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def merged_by_peft(base, adapter, make=None):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = make() if make else AutoModelForCausalLM.from_pretrained(base)
    return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().eval()


@pytest.mark.parametrize("number", [0, 1])
def test_the_baked_model_is_pefts_own_merge(number, bake, tiny_llama, lora_pair, tmp_path):
    from transformers import AutoModelForCausalLM

    report = bake(lora_pair[number], tiny_llama, tmp_path / "out")
    theirs = merged_by_peft(tiny_llama, lora_pair[number])
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert np.abs(tiny.output(ours) - tiny.output(theirs)).max() < 1e-5
    assert len(report.changed) == {0: 4, 1: 14}[number]


def test_fp32_is_within_two_units_in_the_last_place_of_float64(
    bake, tiny_llama, lora_pair, tmp_path
):
    bake(lora_pair[0], tiny_llama, tmp_path / "out")
    base, baked = weights(tiny_llama), weights(tmp_path / "out")
    adapter = load_file(lora_pair[0] / "adapter_model.safetensors")
    for key in base:
        stem = f"base_model.model.{key.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" not in adapter:
            assert baked[key].tobytes() == base[key].tobytes()
            continue
        exact = base[key].astype(np.float64) + 4.0 * adapter[f"{stem}.lora_B.weight"].astype(
            np.float64
        ) @ adapter[f"{stem}.lora_A.weight"].astype(np.float64)
        assert (
            np.abs(baked[key] - exact) <= 2 * np.spacing(np.abs(exact).astype(np.float32))
        ).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_the_error_is_no_larger_than_pefts(
    dtype, bake, tiny_llama, lora_pair, tmp_path
):
    import torch
    from transformers import LlamaForCausalLM

    half = tmp_path / "half"
    LlamaForCausalLM.from_pretrained(tiny_llama).to(getattr(torch, dtype)).save_pretrained(half)
    bake(lora_pair[1], half, tmp_path / "out")
    theirs = merged_by_peft(half, lora_pair[1]).state_dict()
    exact = merged_by_peft(
        None, lora_pair[1], lambda: LlamaForCausalLM.from_pretrained(half, dtype=torch.float64)
    )
    ours = LlamaForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    apart = {"ours": 0.0, "theirs": 0.0}
    for key, value in exact.state_dict().items():
        apart["ours"] += float((ours[key].double() - value).abs().sum())
        apart["theirs"] += float((theirs[key].double() - value).abs().sum())
    assert 0 < apart["ours"] <= apart["theirs"]


def test_shards_keep_their_headers_and_files_travel_along(bake, tiny_llama, lora_pair, tmp_path):
    base = sharded(tiny_llama, tmp_path / "base")
    (base / "tokenizer.json").write_text("{}")
    (base / "training_args.bin").write_bytes(b"not ours to carry")
    report = bake(lora_pair[0], base, tmp_path / "out")
    for file in base.glob("*.safetensors"):
        length = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        assert (tmp_path / "out" / file.name).read_bytes()[:length] == file.read_bytes()[:length]
    for name in (
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "model.safetensors.index.json",
    ):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
    assert not (tmp_path / "out" / "training_args.bin").exists()
    assert not (tmp_path / "out" / "adaptkit-bake.json").exists()
    assert len(report.files) == len(list(base.glob("*.safetensors")))


def test_another_dtype_is_rounded_once_and_written_down(bake, tiny_llama, lora_pair, tmp_path):
    import ml_dtypes
    from transformers import AutoModelForCausalLM

    base = sharded(tiny_llama, tmp_path / "base")
    bake(lora_pair[0], base, tmp_path / "full")
    bake(lora_pair[0], base, tmp_path / "half", dtype="bfloat16")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert str(model.dtype) == "torch.bfloat16"
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    full = weights(tmp_path / "full")
    for key, value in model.state_dict().items():
        if key in full:
            once = full[key].astype(ml_dtypes.bfloat16).astype(np.float32)
            assert np.abs(value.float().numpy() - once).max() <= np.abs(once).max() * 2**-8


def test_a_killed_bake_shows_nothing_and_goes_on_where_it_stopped(tiny_llama, lora_pair, tmp_path):
    base = sharded(tiny_llama, tmp_path / "base")
    home, out = tmp_path / "home", tmp_path / "out"
    with Workspace.init(home, notify=lambda _: None) as ws:
        whole = ws.bake(str(lora_pair[1]), base, tmp_path / "whole", force=True).report

    def work(stop_after):
        count = 0

        def watch(_):
            nonlocal count
            count += 1
            if count > stop_after:
                os.kill(os.getpid(), signal.SIGKILL)

        def watching(what, _total, _unit=""):
            return nullcontext(watch if what.startswith("baking") else lambda _: None)

        with Workspace.open(home / ".adaptkit", notify=lambda _: None, watch=watching) as ws:
            ws.bake(str(lora_pair[1]), base, out, force=True, workers=1)

    for stop_after in (4, 7, 8):
        killed(lambda stop=stop_after: work(stop), 60.0)
        assert not out.exists()
    with Workspace.open(home / ".adaptkit", notify=lambda _: None) as ws:
        assert ws.bake(str(lora_pair[1]), base, out, force=True).report.resumed > 0
    for name in whole.files:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "out.partial").exists()


def test_what_is_left_of_another_bake_is_refused_until_it_is_cleaned(
    bake, tiny_llama, lora_pair, tmp_path
):
    left = tmp_path / "out.partial"
    left.mkdir()
    (left / "adaptkit-bake.json").write_text('{"key": "sha256:0", "finished": []}')
    with pytest.raises(Refused, match="is left of another bake"):
        bake(lora_pair[0], tiny_llama, tmp_path / "out")
    bake(lora_pair[0], tiny_llama, tmp_path / "out", clean=True)
    with pytest.raises(Refused, match="is not empty"):
        bake(lora_pair[0], tiny_llama, tmp_path / "out")


def test_a_change_to_one_of_two_tied_tensors_makes_two_of_them(bake, tmp_path, workspace):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    base = LlamaForCausalLM(config)
    base.save_pretrained(tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of just what is tested here
        tiny.save_adapter(
            tmp_path / "base", tmp_path / "adapter", seed=1, r=4, target_modules=["embed_tokens"]
        )
    report = bake(tmp_path / "adapter", tmp_path / "base", tmp_path / "out")
    assert "were tied" in report.remarks[0]
    model = LlamaForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert model.config.tie_word_embeddings is False
    found = model.state_dict()
    assert not np.array_equal(
        found["lm_head.weight"].numpy(), found["model.embed_tokens.weight"].numpy()
    )
    assert np.array_equal(found["lm_head.weight"].numpy(), base.lm_head.weight.detach().numpy())
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        live = PeftModel.from_pretrained(
            LlamaForCausalLM.from_pretrained(tmp_path / "base"), str(tmp_path / "adapter")
        )
    assert np.abs(tiny.output(live.eval()) - tiny.output(model)).max() < 1e-5


def test_heads_that_were_trained_whole_replace_those_of_the_base(bake, tiny_llama, tmp_path):
    tiny.save_adapter(
        tiny_llama,
        tmp_path / "adapter",
        seed=3,
        r=4,
        target_modules=["q_proj"],
        modules_to_save=["lm_head"],
    )
    bake(tmp_path / "adapter", tiny_llama, tmp_path / "out")
    from transformers import AutoModelForCausalLM

    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert (
        np.abs(
            tiny.output(ours) - tiny.output(merged_by_peft(tiny_llama, tmp_path / "adapter"))
        ).max()
        < 1e-5
    )


def test_gpt2_weights_are_updated_as_they_are_stored(bake, tmp_path):
    model = tiny.gpt2()
    model.save_pretrained(tmp_path / "base")
    tiny.make_adapter(
        model, tmp_path / "adapter", 1, r=4, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True
    )
    bake(tmp_path / "adapter", tmp_path / "base", tmp_path / "out")
    from transformers import AutoModelForCausalLM

    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert (
        np.abs(
            tiny.output(ours) - tiny.output(merged_by_peft(tmp_path / "base", tmp_path / "adapter"))
        ).max()
        < 1e-5
    )


def test_what_the_architecture_cannot_hold_is_refused_by_name(bake, tiny_llama, tmp_path):
    with pytest.warns(UserWarning, match="the targeted layer of type Linear has no bias"):
        tiny.save_adapter(
            tiny_llama, tmp_path / "adapter", seed=3, r=4, target_modules=["q_proj"], lora_bias=True
        )
    with pytest.raises(
        BakeError, match=r"adds a bias to 'model.layers.0.self_attn.q_proj', a layer that has none"
    ):
        bake(tmp_path / "adapter", tiny_llama, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_a_module_without_a_weight_a_quantised_base_and_another_base_are_refused(
    workspace, bake, tiny_llama, lora_pair, tmp_path
):
    base = tmp_path / "base"
    shutil.copytree(tiny_llama, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(
        json.dumps(
            config | {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
        )
    )
    with pytest.raises(BakeError, match="its weights are quantised"):
        bake(lora_pair[0], base, tmp_path / "out")
    other = tmp_path / "gpt2"
    tiny.gpt2().save_pretrained(other)
    with pytest.raises(BakeError, match="does not fit the base"):
        bake(lora_pair[0], other, tmp_path / "out")
    workspace.add(lora_pair[0], "naval")
    with pytest.raises(BaseMismatch, match="cannot bake naval into"):
        workspace.bake("naval", other, tmp_path / "out")
    with pytest.raises(NotFound, match="no dtype called 'bf16'"):
        bake(lora_pair[0], tiny_llama, tmp_path / "out", dtype="bf16")
    (base / "config.json").write_text(json.dumps(config))
    with (base / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(Exception, match="truncated"):
        bake(lora_pair[0], base, tmp_path / "out")


def test_a_base_known_by_name_only_is_not_baked_into(workspace, tiny_llama, lora_pair, tmp_path):
    adapter = shutil.copytree(lora_pair[0], tmp_path / "adapter")
    workspace.add(tiny.edit_config(adapter, base_model_name_or_path="org/some-model"), "naval")
    with pytest.raises(BaseMismatch, match="declared names differ|changes weights for good"):
        workspace.bake("naval", tiny_llama, tmp_path / "out")


def test_a_value_that_does_not_fit_its_dtype_leaves_nothing_visible(
    bake, tiny_llama, lora_pair, tmp_path
):
    adapter = shutil.copytree(lora_pair[0], tmp_path / "adapter")
    tiny.edit_config(adapter, lora_alpha=1e9)
    with pytest.raises(Exception, match="came out as NaN or Inf"):
        bake(adapter, tiny_llama, tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()


def test_the_logits_of_a_prompt_are_compared_with_the_live_adapter(workspace, story, tmp_path):
    from transformers import AutoTokenizer, LlamaForCausalLM

    base = tmp_path / "base"
    LlamaForCausalLM.from_pretrained(story.base, dtype="float32").save_pretrained(base)
    AutoTokenizer.from_pretrained(story.base).save_pretrained(base)
    workspace.add(story.naval, "naval", base=str(base))
    baked = workspace.bake(
        "naval", base, tmp_path / "out", check="Log: hull 90%. Status of the hull?"
    )
    assert baked.apart is not None
    assert 0 <= baked.apart < 1e-5
    from adaptkit.bake.check_logits import check_logits

    with pytest.raises(BakeError, match="does not answer like the live adapter"):
        check_logits(base, story.medic, tmp_path / "out", "Log: pulse 80 u. Status of the pulse?")


def test_a_model_that_does_not_pass_its_check_never_gets_its_name(workspace, story, tmp_path):
    from transformers import AutoTokenizer, LlamaForCausalLM

    base, out, prompt = tmp_path / "base", tmp_path / "out", "Log: hull 90%"
    model = LlamaForCausalLM.from_pretrained(story.base, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(story.base)
    # A base that is broken for a token of the prompt: no logits come out of it, baked or not.
    model.get_input_embeddings().weight.data[tokenizer(prompt)["input_ids"][-1]] = float("nan")
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    (tmp_path / "out.failed").mkdir()  # left of an earlier run
    with pytest.raises(BakeError, match="out.failed does not answer like the live adapter"):
        workspace.bake(str(story.naval), base, out, check=prompt, force=True)
    assert not out.exists()
    assert not (tmp_path / "out.partial").exists()
    failed = tmp_path / "out.failed"
    assert {"config.json", "model.safetensors"} <= {file.name for file in failed.iterdir()}
    assert not (failed / "adaptkit-bake.json").exists()
    # Nothing stands in the way of the next one.
    assert workspace.bake(str(story.naval), base, out, force=True).report.resumed == 0


def test_a_check_that_cannot_be_made_is_refused_before_anything_is_written(
    workspace, lora_pair, tiny_llama, tmp_path
):
    with pytest.raises(BakeError, match="the prompt needs the tokenizer of the base"):
        workspace.bake(str(lora_pair[0]), tiny_llama, tmp_path / "out", check="Hi", force=True)
    assert not list(tmp_path.glob("out*"))


def test_an_adapter_that_names_no_base_is_baked_into_one_that_it_fits(
    workspace, tiny_llama, lora_pair, tmp_path
):
    from transformers import AutoModelForCausalLM

    adapter = shutil.copytree(lora_pair[0], tmp_path / "adapter")
    tiny.edit_config(adapter, base_model_name_or_path=None)
    workspace.add(adapter, "naval")
    for number, ref in enumerate((str(adapter), "naval")):
        out = tmp_path / f"out{number}"
        workspace.noticed.clear()
        workspace.bake(ref, tiny_llama, out)
        assert any("names no base; allowed because each" in text for text in workspace.noticed)
        theirs = merged_by_peft(tiny_llama, lora_pair[0]).state_dict()
        mine = AutoModelForCausalLM.from_pretrained(out).state_dict()
        assert all((mine[name] - theirs[name]).abs().max() < 1e-6 for name in theirs)
    other = tmp_path / "gpt2"
    tiny.gpt2().save_pretrained(other)
    with pytest.raises(BaseMismatch, match="baking changes weights for good"):
        workspace.bake("naval", other, tmp_path / "out")


def test_without_sync_the_bytes_are_the_same_and_no_shard_is_synced(
    lora_pair, tiny_llama, tmp_path, monkeypatch
):
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        ws.bake(str(lora_pair[1]), tiny_llama, tmp_path / "synced", force=True)
        synced = []
        fsync = os.fsync
        monkeypatch.setattr(
            os,
            "fsync",
            lambda descriptor: (
                synced.append(os.readlink(f"/proc/self/fd/{descriptor}")),
                fsync(descriptor),
            ),
        )
        ws.bake(str(lora_pair[1]), tiny_llama, tmp_path / "quick", force=True, sync=False)
    assert not [path for path in synced if ".safetensors" in path]
    for file in (tmp_path / "synced").iterdir():
        assert (tmp_path / "quick" / file.name).read_bytes() == file.read_bytes()
    assert not (tmp_path / "quick.partial").exists()
