"""A GPT-2: linear layers of another kind, learned positions that end, a tokenizer that begins nothing."""

from __future__ import annotations

import json
from contextlib import ExitStack

import numpy as np
import pytest
import talking
import tiny

from adaptkit import Workspace
from adaptkit.errors import AdaptkitError, BadBase, BadData
from adaptkit.training.base_model import load_model
from adaptkit.workspace.context.moments import open_moments

MOST = 32  # positions of the base
LONG = " ".join(["w1"] * 40)


@pytest.fixture(scope="module")
def short(talker, tmp_path_factory):
    """A workspace with two adapters on a GPT-2 of 32 positions whose tokenizer has no token to begin with."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("short")
    base = folder / "base"
    tiny.gpt2().save_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(talker)
    tokenizer.bos_token = None
    tokenizer.save_pretrained(base)
    how = {"r": 4, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}
    with Workspace.init(folder / "home", notify=lambda _: None) as ws:
        for seed, name in enumerate(("naval", "medic"), 1):
            made = tiny.make_adapter(tiny.gpt2(), folder / name, seed, **how)
            ws.add(made, name, base=str(base))
            talking.save_prompts(folder / f"{name}.jsonl", 30 * seed - 30, 6)
        ws.base_model = base
        yield ws, folder


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_moments_of_gpt2s_layers_are_those_of_their_inputs(short):
    import torch
    from peft import PeftModel
    from transformers import AutoTokenizer, GPT2LMHeadModel

    ws, folder = short
    data = talking.save_prompts(folder / "own.jsonl", 0, 5, answer="w5 w6")
    done = ws.calibrate("naval", ws.base_model, data)
    assert (done.modules, done.unmeasured) == (4, ())
    tokenizer = AutoTokenizer.from_pretrained(ws.base_model)
    model = PeftModel.from_pretrained(
        GPT2LMHeadModel.from_pretrained(ws.base_model), ws.path("naval")
    ).eval()
    rows = []
    name = "transformer.h.1.mlp.c_fc"
    model.get_base_model().get_submodule(name).register_forward_pre_hook(
        lambda _, args: rows.append(args[0][0].double().numpy())
    )
    with torch.no_grad():
        for row in map(json.loads, data.read_text().splitlines()):
            text = f"{row['prompt']} {row['completion']} </s>"
            model(torch.tensor([tokenizer.encode(text)]))
    x = np.concatenate(rows)
    with ExitStack() as stack:
        found = open_moments(ws, done.digest, "naval", stack).of(name, x.shape[1])
    G = np.diag(found.diagonal) + found.factor @ found.factor.T
    wanted = x.T @ x / len(x)
    assert np.abs(G - wanted).max() < 2e-3 * np.abs(wanted).max()
    ws.calibrate("medic", ws.base_model, data)
    assert ws.merge(["naval", "medic"], strategy="regmean", name="both").report.rank == 8


def test_prompts_without_room_for_an_answer_are_left_out_by_line(short):
    ws, folder = short
    told = []
    with Workspace.open(ws.home.path, notify=told.append) as opened:
        opened.merge(["naval", "medic"], name="sum")
        rows = [{"prompt": f"w{i} w{i}"} for i in range(6)]
        naval = write(folder / "mixed.jsonl", *rows[:3], {"prompt": LONG}, *rows[3:])
        data = {"naval": naval, "medic": folder / "medic.jsonl"}
        opened.distil("sum", ws.base_model, data, steps=1, batch=2)
        left = "1 prompts of naval are left out (line 4): they hold no token, or leave no room"
        assert any(left in text for text in told)
        every = write(folder / "long.jsonl", {"prompt": LONG}, {"prompt": f"{LONG} w2"})
        with pytest.raises(AdaptkitError, match="prompts of naval leave no room for an answer"):
            opened.distil("sum", ws.base_model, data | {"naval": every}, steps=1)
        with pytest.raises(AdaptkitError, match="none of its prompts can be answered"):
            opened.calibrate("naval", ws.base_model, every)


def test_a_prompt_that_is_no_token_is_refused_where_something_is_asked(short):
    ws, folder = short
    with pytest.raises(BadData, match="a prompt is empty: the base's tokenizer makes no token"):
        ws.generate(["naval"], "", base=str(ws.base_model))
    suite = write(
        folder / "asks.jsonl",
        {"prompt": "w1", "completion": "w2"},
        {"prompt": "", "completion": "w2"},
    )
    with pytest.raises(BadData, match="a prompt is empty"):
        ws.evaluate(["base"], [suite], base=str(ws.base_model))


def test_rows_beyond_the_last_position_have_no_perplexity(short):
    ws, folder = short
    long = write(folder / "text.jsonl", {"text": LONG})
    with pytest.raises(BadData, match=f"a row of 41 tokens is too long: .* at most {MOST}"):
        ws.evaluate(["base"], [long], base=str(ws.base_model))


def test_an_encoder_decoder_is_named_and_not_loaded(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5", "is_encoder_decoder": true}')
    with pytest.raises(BadBase, match=r"it is an encoder-decoder \(t5\), and only causal"):
        load_model(tmp_path)
