"""adaptkit.training.data.prompts: prompts as tokens, sampled and split without overlap."""

from __future__ import annotations

import json

import pytest
import talking

from adaptkit.errors import AdaptkitError, BadData
from adaptkit.training.data.prompts import Asked, read_prompts, split
from adaptkit.training.data.rows import Message
from adaptkit.training.data.tokens import Tokeniser


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(talking.save_base(tmp_path_factory.mktemp("t") / "base"))


def test_prompt_and_answer_are_joined_between_begin_and_end(tokenizer):
    tokens = Tokeniser(tokenizer).asked("w1 w2", "w3")
    assert tokenizer.convert_ids_to_tokens(tokens.ids) == ["<s>", "w1", "w2", "w3", "</s>"]
    assert (len(tokens.prompt), tokens.answered) == (3, True)
    alone = Tokeniser(tokenizer).asked("<s> w1 w2", "")
    assert tokenizer.convert_ids_to_tokens(alone.ids) == ["<s>", "w1", "w2"]
    assert not alone.answered
    assert Tokeniser(tokenizer, length=3).asked("w1 w2", "w3").ids == tokens.ids[:3]


def test_a_conversation_needs_a_chat_template(tokenizer):
    with pytest.raises(AdaptkitError, match="has no chat template"):
        Tokeniser(tokenizer).asked((Message("user", "w1"),), "w2")


def test_conversations_end_with_the_answer_where_the_assistant_has_the_last_word(tmp_path):
    path = tmp_path / "chat.jsonl"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path.write_text("".join(json.dumps({"messages": turns[:n]}) + "\n" for n in (2, 1)))
    assert read_prompts(path).rows == (Asked((Message("user", "a"),), "b", 1),)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"instruction": "a", "output": "b"}\n'),
        ("a.json", '[{"prompt": "a", "completion": "b"}]'),
        ("a.csv", "prompt,completion\na,b\n"),
        ("a.jsonl", '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'),
    ],
)
def test_every_form_of_training_data_has_prompts(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    (row,) = read_prompts(tmp_path / name).rows
    assert "a" in row.prompt
    assert row.answer == "b"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"text": "a"}', "'prompt' is missing"),
        ('{"prompt": ""}', "'prompt' is empty"),
        ('{"prompt": 7}', "'prompt' is the number 7"),
        ('{"messages": [{"role": "assistant", "content": "b"}]}', "no question before it"),
        ("{", "line 2 of"),
    ],
)
def test_a_row_that_asks_nothing_is_named_with_its_line(line, why, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"prompt": "a"}}\n{line}\n')
    with pytest.raises(BadData, match=f"line 2 of .*a.jsonl is no prompt: [\\s\\S]*{why}|{why}"):
        read_prompts(path)


def test_a_sample_is_even_repeatable_and_in_the_order_of_the_file(tmp_path):
    path = talking.save_prompts(tmp_path / "many.jsonl", 0, 50)
    one, again, other = (read_prompts(path, 10, seed).rows for seed in (1, 1, 2))
    assert one == again != other
    assert [row.line for row in one] == sorted(row.line for row in one)
    assert len({row.prompt for row in one}) == 10
    assert {read_prompts(path, n).digest for n in (None, 10)} == {read_prompts(path).digest}


def test_a_prompt_that_stands_twice_is_never_learned_and_held_out_both(tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "a", "completion": "x"}\n')
    learn, held = split(read_prompts(path).rows, 0.5, seed=0)
    assert sorted(row.prompt for row in (*learn, *held)) == ["a", "b"]


def test_no_more_than_64_prompts_are_held_out(tmp_path):
    path = tmp_path / "many.jsonl"
    path.write_text("".join(f'{{"prompt": "p{i}"}}\n' for i in range(400)))
    learn, held = split(read_prompts(path).rows, 0.2, seed=0)
    assert (len(learn), len(held)) == (336, 64)


def test_an_answer_that_was_judged_bad_is_no_answer_to_a_prompt(tmp_path):
    path = tmp_path / "judged.jsonl"
    rows = [{"prompt": f"p{i}", "completion": "w", "label": bool(i)} for i in range(2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row.answer for row in read_prompts(path).rows] == ["", "w"]
