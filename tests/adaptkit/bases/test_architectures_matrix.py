"""Architectures × adapters × ties × operations: right against PEFT's forward, or refused before writing."""

from __future__ import annotations

import matrix
import pytest
from architectures import TINY

SLICE = [
    ("gpt2", "by class", "embedding"),
    ("gpt2", "by class", "saved head"),
    ("bloom", "by class", "saved embedding"),
    ("llama", "by config", "head"),
    ("llama", "by config", "resized"),
    ("bert", "by class", "head"),
    ("mixtral", "untied", "attention"),
]


@pytest.mark.parametrize(("name", "tie", "kind"), SLICE)
def test_a_slice_of_the_matrix_is_right(name, tie, kind, workspace, tmp_path):
    cells = list(matrix.row(workspace, name, tie, kind, tmp_path))
    assert [cell for cell in cells if cell.state != "right"] == []
    assert [cell.operation for cell in cells] == list(matrix.OPERATIONS)


def test_a_vocabulary_whose_head_was_not_saved_is_refused_before_writing(workspace, tmp_path):
    (cell,) = matrix.row(workspace, "llama", "untied", "resized", tmp_path, ("bake",))
    assert cell.state == "refused"
    assert "'lm_head.weight' would be [64, 32], and LlamaForCausalLM loads [66, 32]" in cell.text


UNSOUND = {"bert", "roberta"}
"""transformers saves these, resized and not tied, so that they load otherwise than they were: extracts say so."""


@pytest.mark.soak
@pytest.mark.parametrize("tie", matrix.TIES)
@pytest.mark.parametrize("name", list(TINY))
def test_every_cell_is_right_or_refused(name, tie, workspace, tmp_path):
    cells = [c for kind in matrix.KINDS for c in matrix.row(workspace, name, tie, kind, tmp_path)]
    assert [cell for cell in cells if cell.state == "wrong"] == []
    refused = {(cell.kind, cell.operation) for cell in cells if cell.state == "refused"}
    unsound = {("resized", "extract")} if name in UNSOUND and tie == "untied" else set()
    assert refused <= {("resized", "bake")} | unsound
    assert refused >= unsound


def test_a_tuned_model_without_a_tensor_of_its_class_is_refused(workspace, tmp_path):
    """transformers saves a resized BERT whose embeddings are not tied without the bias of its decoder."""
    cells = list(matrix.row(workspace, "bert", "untied", "resized", tmp_path, ("extract",)))
    assert [cell.state for cell in cells] == ["refused"]
    assert "it has no 'cls.predictions.decoder.bias'" in cells[0].text


def test_a_tuned_model_that_its_class_cannot_load_is_refused(workspace, tmp_path):
    """transformers saves a resized RoBERTa whose embeddings are not tied with a bias of the old size."""
    cells = list(matrix.row(workspace, "roberta", "untied", "resized", tmp_path, ("extract",)))
    assert [cell.state for cell in cells] == ["refused"]
    assert "and RobertaForMaskedLM loads [66]" in cells[0].text
