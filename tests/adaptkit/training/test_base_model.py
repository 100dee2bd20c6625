"""A base is loaded on the device that was asked for, or the error names it."""

from __future__ import annotations

import json

import pytest
import torch

from adaptkit import Workspace
from adaptkit.errors import BadData, Refused
from adaptkit.evaluation.speaker import Speaker
from adaptkit.training.base_model import load_model, most_tokens
from adaptkit.workspace.serving.serve import ServeOptions


@pytest.mark.parametrize("device", ["banana", "cuda", "cuda:99"])
def test_a_device_that_is_not_there_is_named(speaker, device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has it: nothing to refuse")
    with pytest.raises(Refused, match=f"cannot run on the device '{device}'(?s:.*)--device cpu"):
        load_model(speaker, device=device)


@pytest.mark.parametrize("dtype", ["banana", "nn", "int8", "Tensor"])
def test_a_server_computes_in_floating_point_numbers(speaker, tmp_path, dtype):
    with (
        Workspace.init(tmp_path / "home", notify=lambda _: None) as ws,
        pytest.raises(Refused, match=f"cannot serve in the dtype '{dtype}'"),
    ):
        ws.serving_app(str(speaker), options=ServeOptions(dtype=dtype))


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 8}}, 8),
        ({"max_position_embeddings": "many"}, None),
        ({}, None),
        ([], None),
    ],
)
def test_how_many_tokens_a_base_reads_is_what_its_configuration_says(tmp_path, config, most):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert most_tokens(tmp_path) == most


def test_an_answer_ends_where_the_base_reads_no_further(speaker):
    asked = Speaker(speaker)
    most = most_tokens(speaker)
    prompt = "x" * (most - 3)
    asked.model.generation_config.eos_token_id = None
    said = asked.ask(prompt, 100)
    assert len(said) <= 3  # a token is a byte here
    with pytest.raises(BadData, match=f"tokens is too long: the base reads at most {most}"):
        asked.ask("x" * most, 1)
