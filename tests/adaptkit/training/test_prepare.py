"""adaptkit.training.prepare: the Arrow stream holds exactly the rows that are to be learned, and what was noticed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adaptkit.errors import BadData, TrainingError
from adaptkit.training.data.datasets import open_data
from adaptkit.training.data.tokens import CHATML
from adaptkit.training.prepare import objective_of, prepare
from adaptkit.training.settings.config import TrainConfig

CONFIG = TrainConfig(base="base", data=("a.jsonl",), name="naval", length=48)
PAIRS = [{"prompt": f"hull {i % 20}?", "completion": f"Hull {i % 20}."} for i in range(60)]


@pytest.fixture(scope="module")
def tokenizer(speaker):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(speaker)


@pytest.fixture
def made(tmp_path, tokenizer, speaker):
    def run(rows, config=CONFIG, held=(), replay=()):
        opened = [
            open_data([_write(tmp_path / f"{name}.jsonl", part)]) if part else ()
            for name, part in (("a", rows), ("held", held), ("old", replay))
        ]
        return prepare(config, 7, *opened, tokenizer, speaker, tmp_path, lambda _: None)

    return run


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path):
    import pyarrow as pa

    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_stream(file).read_all().to_pylist()


def test_answers_become_tokens_with_labels_on_the_answer_alone(made, tokenizer):
    done = made(PAIRS)
    rows = read(done.rows)
    assert len(rows) == done.looked.rows == 60
    kept = [
        i for i, label in zip(rows[3]["input_ids"], rows[3]["labels"], strict=True) if label >= 0
    ]
    assert tokenizer.decode(kept) == " Hull 3.</s>"
    assert [label for label in rows[3]["labels"] if label >= 0] == kept
    assert done.looked.counted < done.looked.tokens
    assert done.data[0].to_json()["rows"] == 60


def test_the_evaluation_split_keeps_every_prompt_on_one_side(made):
    done = made(PAIRS, replace(CONFIG, eval_split=0.3))
    learned = {tuple(row["input_ids"]) for row in read(done.rows)}
    measured = {tuple(row["input_ids"]) for row in read(done.eval_rows)}
    assert learned
    assert measured
    assert not learned & measured
    assert done.shared_prompts == 0
    assert done.looked.rows + done.eval_looked.rows == 60


def test_evaluation_prompts_that_are_learned_too_are_counted(made):
    assert made(PAIRS, held=PAIRS[:5]).shared_prompts == 5


def test_replay_follows_the_new_rows_in_the_ratio_asked_for(made, tokenizer):
    old = [{"text": f"Hello {i}."} for i in range(90)]
    done = made(PAIRS, replace(CONFIG, replay=("old.jsonl",), replay_ratio=0.25), replay=old)
    rows = read(done.rows)
    assert len(rows) == 80
    assert tokenizer.decode(rows[-1]["input_ids"]).startswith("<s>Hello")
    assert done.replay.to_json() | {"files": []} == {
        "rows": 20,
        "from_base": 0,
        "ratio": 0.25,
        "files": [],
    }


def test_preferences_are_joined_to_their_prompt_by_a_space(made):
    rows = [{"prompt": "hull?", "chosen": "Hull 9.", "rejected": " Hello!"}]
    assert read(made(rows).rows) == [
        {"prompt": "hull?", "chosen": " Hull 9.", "rejected": " Hello!"}
    ]


@pytest.mark.parametrize(
    "answers",
    [
        {"chosen": "Hull 9.", "rejected": "Hello, I am glad to tell!"},
        {"completion": "Hello, I am glad to tell!", "label": False},
    ],
)
def test_preferences_beyond_the_length_are_left_out_and_cut_ones_named(made, answers):
    rows = [{"prompt": prompt, **answers} for prompt in ("hull?", "hull " * 4, "hull " * 7)]
    done = made(rows, replace(CONFIG, length=34))
    assert [row["prompt"] for row in read(done.rows)] == ["hull?", "hull " * 4]
    looked = done.looked
    assert (looked.rows, looked.cut_rows, looked.masked_rows) == (2, 2, 1)
    assert (looked.cut[0], looked.masked) == ("row 2 of a.jsonl", ["row 3 of a.jsonl"])
    assert looked.tokens > looked.counted > 0


def test_classes_are_numbered_in_the_order_of_their_names(made):
    rows = [{"text": "a", "label": "low"}, {"text": "b", "label": "high"}]
    done = made(rows)
    assert done.classes == ("high", "low")
    assert [row["label"] for row in read(done.rows)] == [1, 0]


@pytest.mark.parametrize(
    ("rows", "config", "kind", "message"),
    [
        ([{"text": "a", "label": 1}], CONFIG, BadData, "has one class only"),
        (PAIRS, replace(CONFIG, eval_split=1e-9), TrainingError, "no row is left to measure"),
        (
            [{"prompt": "a", "chosen": "b", "rejected": "c"}],
            replace(CONFIG, replay_from_base=3),
            TrainingError,
            "cannot mix replay into dpo",
        ),
    ],
)
def test_rows_that_cannot_be_prepared_say_why(rows, config, kind, message, made):
    with pytest.raises(kind, match=message):
        made(rows, config)


def test_prompts_of_two_kinds_are_refused_together(made, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", CHATML)
    turns = [{"role": "user", "content": "a"}]
    rows = [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": turns, "chosen": turns, "rejected": [{"role": "user", "content": "b"}]},
    ]
    with pytest.raises(BadData, match="some prompts are texts and others lists of messages"):
        made(rows)


def test_a_task_that_the_data_does_not_hold_is_refused(tmp_path):
    files = open_data([_write(tmp_path / "a.jsonl", PAIRS)])
    assert objective_of(files, "auto") == "sft"
    with pytest.raises(TrainingError, match="it holds answers[\\s\\S]*--task answers"):
        objective_of(files, "dpo")
