"""adaptkit.training.guards: each of the field's silent failures gives a plain message."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptkit.errors import TrainingError
from adaptkit.extend.training import TrainResult
from adaptkit.training.guards import (
    Looked,
    check_end,
    check_overlap,
    check_rank,
    check_replay,
    check_result,
    check_resumed,
    check_rows,
)


def result(**more):
    given = {"adapter": Path(), "steps": 9, "losses": (), "moved": 3, "tensors": 4} | more
    return TrainResult(**given)


def curve(*losses):
    return tuple(enumerate(losses, 1))


def test_a_training_that_went_well_raises_nothing():
    assert check_result(result(losses=curve(5, 4, 4, 3, 3, 2, 2, 1, 1)), 1e-3) == []
    assert check_rows(Looked(rows=3), 64) == []
    assert check_overlap(0, 9) == []
    assert check_replay(0, 9) == []


def test_a_tokenizer_without_an_end_is_said_where_no_template_writes_one():
    (text,) = check_end(None, ["prompt/completion", "messages"])
    assert text.endswith("does not learn where an answer ends")
    assert check_end(None, ["messages", "sharegpt"]) == check_end(2, ["text"]) == []


def test_a_rank_that_no_matrix_holds_is_said():
    shapes = {"a": (64, 16), "b": (16, 16), "c": (99,)}
    (text,) = check_rank({"peft_type": "LORA", "r": 17}, shapes)
    assert text == "rank 17 is above that of every matrix of the base (16), and holds no more"
    assert check_rank({"peft_type": "LORA", "r": 16}, shapes) == []
    assert check_rank({"peft_type": "VERA", "r": 256}, shapes) == []
    assert check_rank({"peft_type": "LORA", "r": 16}, {}) == []


def test_replay_of_what_is_trained_on_is_said():
    (text,) = check_replay(7, 9)
    assert text.startswith("7 of the 9 replayed rows ask what is trained on anyway")


def test_all_labels_masked_is_an_error():
    with pytest.raises(TrainingError, match="none of the 2 rows has a token to learn: every label"):
        check_rows(Looked(masked_rows=2), 64)
    with pytest.raises(TrainingError, match="beyond the first 64 tokens[\\s\\S]*longer --length"):
        check_rows(Looked(masked_rows=2, cut_rows=2), 64)


def test_rows_left_out_and_answers_cut_off_are_counted_and_named():
    looked = Looked(rows=9)
    for number in range(1, 6):
        looked.note_cut(f"row {number} of a.jsonl")
    looked.note_masked("row 1 of a.jsonl")
    masked, cut = check_rows(looked, 64)
    assert masked == (
        "1 row is left out, because no token of the answer is within the first 64: row 1 of a.jsonl"
    )
    assert cut.startswith("4 rows are cut off at 64 tokens")
    assert cut.endswith("row 2 of a.jsonl, row 3 of a.jsonl and 2 more")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"moved": 0}, "the adapter did not change: none of its 4 trained tensors"),
        ({"steps": 0}, "no step was trained"),
        ({"apart": 0.02}, "the saved adapter does not return what the trained one did"),
    ],
)
def test_a_worthless_result_is_an_error(more, message):
    with pytest.raises(TrainingError, match=message):
        check_result(result(**more), 1e-3)


def test_a_loss_that_did_not_fall_is_a_warning():
    (text,) = check_result(result(losses=curve(2, 2, 2, 2, 2, 2, 2, 2, 2)), 1e-3)
    assert text.startswith("the loss did not fall: 2 at first, 2 at the end")
    assert check_result(result(losses=curve(2, 2)), 1e-3) == []


def test_a_resumed_run_goes_on_at_its_step_and_loss():
    going = result(first_step=5, losses=((6, 1.1), (7, 1.0)))
    assert check_resumed(going, 5, 1.2) == []
    with pytest.raises(TrainingError, match="did not go on at step 5: it began at step 0"):
        check_resumed(result(first_step=0), 5, 1.2)
    (text,) = check_resumed(result(first_step=5, losses=((6, 5.0),)), 5, 1.2)
    assert text.startswith("the loss rose from 1.2 to 5")


def test_shared_prompts_are_counted():
    assert check_overlap(3, 9)[0].startswith("3 of the 9 evaluation prompts")
