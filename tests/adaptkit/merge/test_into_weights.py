"""A merge straight into full weights is the sum of what PEFT's own merges change, of whatever methods."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import trained_adapters

from adaptkit.errors import BadRecipe, BaseMismatch

KINDS = [
    ("LORA", {"r": 4}),
    ("LORA", {"r": 2, "use_dora": True}),
    ("LOHA", {"r": 2}),
    ("OFT", {}),
    ("IA3", {}),
    ("LN_TUNING", {}),
    ("LORA", {"r": 4, "init_lora_weights": "pissa"}),
]


@pytest.fixture
def into(workspace):
    return lambda sources, base, out, **how: (
        workspace.merge_into_model(sources, base, out, **{"force": True} | how).report
    )


@pytest.fixture(scope="module")
def crowd(tiny_llama, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crowd")
    return [
        trained_adapters.save(tiny_llama, folder / str(at), kind, at, **how)
        for at, (kind, how) in enumerate(KINDS)
    ]


def test_seven_methods_become_one_model(crowd, into, tiny_llama, tmp_path):
    weights = [0.5, 1.0, -0.7, 0.3, 1.2, 0.9, 0.4]
    into(
        [f"{folder}={weight}" for folder, weight in zip(crowd, weights, strict=True)],
        tiny_llama,
        tmp_path / "out",
    )
    before = trained_adapters.weights(tiny_llama)
    wanted = dict(before)
    for folder, weight in zip(crowd, weights, strict=True):
        after = trained_adapters.merged_by_peft(tiny_llama, folder)
        wanted = {key: wanted[key] + weight * (after[key] - before[key]) for key in before}
    ours = trained_adapters.weights(tmp_path / "out")
    assert max(np.abs(ours[key] - wanted[key]).max() for key in wanted) < 1e-5


def test_a_strategy_that_is_not_linear_keeps_its_whole_rank(
    into, workspace, tiny_llama, lora_pair, tmp_path
):
    pair = [str(folder) for folder in lora_pair]
    choices = {"strategy": "ties", "params": {"density": "0.5"}, "space": "dense"}
    into(pair, tiny_llama, tmp_path / "model", **choices)
    workspace.merge(pair, out=tmp_path / "adapter", rank=32, **choices)
    workspace.bake(str(tmp_path / "adapter"), tiny_llama, tmp_path / "baked", force=True)
    ours, theirs = (
        trained_adapters.weights(tmp_path / "model"),
        trained_adapters.weights(tmp_path / "baked"),
    )
    assert max(np.abs(ours[key] - theirs[key]).max() for key in ours) < 1e-5


def test_biases_and_heads_come_along(into, tmp_path):
    def base():
        return tiny.bert()

    base().save_pretrained(tmp_path / "base")
    head = {
        "target_modules": ["query", "value"],
        "modules_to_save": ["classifier"],
        "task_type": "SEQ_CLS",
    }
    folders = [
        tiny.make_adapter(base(), tmp_path / "a", 1, r=2, lora_bias=True, **head),
        tiny.make_adapter(
            base(), tmp_path / "b", 2, r=4, target_modules=["key", "value"], lora_bias=True
        ),
    ]
    into([f"{folders[0]}=0.5", str(folders[1])], tmp_path / "base", tmp_path / "out")
    from peft import PeftModel
    from transformers import BertForSequenceClassification

    before = dict(base().named_parameters())
    wanted = {name: value.detach().clone() for name, value in before.items()}
    for folder, weight in zip(folders, (0.5, 1.0), strict=True):
        for name, value in (
            PeftModel.from_pretrained(base(), str(folder)).merge_and_unload().named_parameters()
        ):
            part = 1.0 if name.startswith("classifier") else weight
            wanted[name] += part * (value - before[name]).detach()
    ours = dict(BertForSequenceClassification.from_pretrained(tmp_path / "out").named_parameters())
    assert max(float((ours[name] - wanted[name]).detach().abs().max()) for name in wanted) < 1e-6


def test_a_rank_has_no_meaning_there(into, tiny_llama, lora_pair, tmp_path):
    with pytest.raises(
        BadRecipe, match="a merge into full weights has no rank: the whole update is added"
    ):
        into([str(folder) for folder in lora_pair], tiny_llama, tmp_path / "out", rank=4)


def test_another_base_is_refused(into, lora_pair, tmp_path):
    other = tiny.save_llama(tmp_path / "other", seed=1)
    with pytest.raises(BaseMismatch, match=r"cannot bake .* into "):
        into([str(folder) for folder in lora_pair], other, tmp_path / "out", force=False)
    assert not (tmp_path / "out").exists()
