"""adaptkit.training.prompts: prompts as tokens, sampled and split without overlap."""

from __future__ import annotations

import json

import pytest
import talking

from adaptkit.errors import AdaptkitError
from adaptkit.training.prompts import Prompt, encode, read_prompts, split


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(talking.save_base(tmp_path_factory.mktemp("t") / "base"))


def test_prompt_and_answer_are_joined_between_begin_and_end(tokenizer):
    tokens = encode(tokenizer, Prompt("w1 w2", "w3", 1))
    assert tokenizer.convert_ids_to_tokens(tokens.ids) == ["<s>", "w1", "w2", "w3", "</s>"]
    assert (tokens.start, tokens.answered) == (3, True)
    alone = encode(tokenizer, Prompt("<s> w1 w2", "", 1))
    assert tokenizer.convert_ids_to_tokens(alone.ids) == ["<s>", "w1", "w2"]
    assert not alone.answered
    assert encode(tokenizer, Prompt("w1 w2", "w3", 1), longest=3).ids == tokens.ids[:3]


def test_a_conversation_needs_a_chat_template(tokenizer):
    row = Prompt((("user", "w1"),), "w2", 1)
    with pytest.raises(AdaptkitError, match="the base's tokenizer has no chat template"):
        encode(tokenizer, row)


def test_conversations_end_with_the_answer_where_the_assistant_has_the_last_word(tmp_path):
    path = tmp_path / "chat.jsonl"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path.write_text(json.dumps({"messages": turns}) + "\n")
    assert read_prompts(path).rows == (Prompt((("user", "a"),), "b", 1),)


def test_a_sample_is_even_repeatable_and_in_the_order_of_the_file(tmp_path):
    path = talking.save_prompts(tmp_path / "many.jsonl", 0, 50)
    one, again, other = (read_prompts(path, 10, seed).rows for seed in (1, 1, 2))
    assert one == again != other
    assert [row.line for row in one] == sorted(row.line for row in one)
    assert len({row.text for row in one}) == 10
    assert {read_prompts(path, n).digest for n in (None, 10)} == {read_prompts(path).digest}


def test_a_prompt_that_stands_twice_is_never_learned_and_held_out_both(tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "a", "completion": "x"}\n')
    learn, held = split(read_prompts(path).rows, 0.5, seed=0)
    assert sorted(row.text for row in (*learn, *held)) == ["a", "b"]
