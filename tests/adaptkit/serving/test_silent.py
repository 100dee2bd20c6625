"""An adapter that changes nothing is an error that says so."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.errors import Refused
from adaptkit.serving.bank.bank import Bank
from adaptkit.serving.bank.silent import check_effect
from adaptkit.serving.batcher import Batcher, Job
from adaptkit.serving.sampling import Sampling


def changed(folder, to, change):
    """A copy of an adapter whose tensors went through `change`."""
    shutil.copytree(folder, to)
    file = to / "adapter_model.safetensors"
    tensors = {key: change(key, value).contiguous() for key, value in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    return to


def put(fleet, bank, key, folder):
    with Adapter.open(folder, key) as adapter:
        bank.put_opened(key, OpenAdapter(adapter, fleet.plugins.method_for(adapter), key))


@pytest.fixture
def bank(fleet):
    return Bank(fleet.model(), slots=2, base=fleet.base)


def test_every_adapter_that_was_trained_has_an_effect(fleet, bank):
    for name, folder in fleet.adapters.items():
        put(fleet, bank, name, folder)
        check_effect(bank, name)


def test_one_that_was_never_trained_is_an_error_that_says_so(fleet, bank, tmp_path):
    blank = changed(
        fleet.adapters["naval"],
        tmp_path / "blank",
        lambda key, value: torch.zeros_like(value) if "lora_B" in key else value,
    )
    put(fleet, bank, "blank", blank)
    with pytest.raises(
        Refused,
        match=r"blank has no effect on this base: 8 tokens have the very logits of the base: "
        r"all its B factors are zero, as before any training(?s:.*)train it",
    ):
        check_effect(bank, "blank")


def test_one_too_small_for_the_dtype_is_an_error_too(fleet, tmp_path):
    bank = Bank(fleet.model(dtype=torch.bfloat16), slots=2)
    faint = changed(fleet.adapters["naval"], tmp_path / "faint", lambda _, value: value * 1e-12)
    put(fleet, bank, "faint", faint)
    with pytest.raises(Refused, match=r"the 4 modules that it changes change no logit"):
        check_effect(bank, "faint")


def test_weights_that_are_the_bases_own_are_an_error(fleet, bank, tmp_path):
    head = fleet.model().lm_head.weight.detach()

    def own(key, value):
        return head.clone() if "lm_head" in key else torch.zeros_like(value)

    put(fleet, bank, "own", changed(fleet.adapters["fullhead"], tmp_path / "own", own))
    with pytest.raises(Refused, match=r"every tensor that it brings is the base's own"):
        check_effect(bank, "own")


def test_in_a_batch_its_request_fails_and_the_others_go_on(fleet, bank, tmp_path):
    put(fleet, bank, "naval", fleet.adapters["naval"])
    put(
        fleet,
        bank,
        "blank",
        changed(fleet.adapters["medic"], tmp_path / "b", lambda _, value: torch.zeros_like(value)),
    )
    ends = {}
    batcher = Batcher(bank, check=True)
    batcher.submit(
        [
            Job(
                [5, 9],
                {key: 1.0},
                Sampling(max_tokens=3, temperature=0),
                lambda _: True,
                lambda reason, key=key: ends.setdefault(key, reason),
            )
            for key in ("naval", "blank")
        ]
    )
    batcher.close(120)
    assert ends["naval"] == "length"
    assert "blank has no effect on this base" in str(ends["blank"])
    assert batcher.heard == {"naval"}
