"""adaptkit.training.data.tokens: what counts in the loss is the answer, all of it and nothing else."""

from __future__ import annotations

import pytest

from adaptkit.errors import BadAdapter, TrainingError
from adaptkit.training.data.rows import Chat, Message, Pair, Text
from adaptkit.training.data.tokens import CHATML, IGNORED, TEMPLATE, Tokeniser, template_of

PLAIN = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
TALK = Chat(
    (
        Message("user", "Hull?"),
        Message("assistant", "Hull 90%."),
        Message("user", "Crew?"),
        Message("assistant", "Crew 7."),
    )
)


@pytest.fixture
def tokenizer(speaker):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(speaker)


def test_the_answer_of_a_pair_counts_with_its_end_and_a_space_joins_it(tokenizer):
    tokens = Tokeniser(tokenizer)(Pair("Hull?", "Hull 90%."))
    assert tokenizer.decode(tokens.ids) == "<s>Hull? Hull 90%.</s>"
    assert tokenizer.decode(tokens.prompt) == "<s>Hull?"
    assert tokenizer.decode(tokens.answer) == " Hull 90%.</s>"
    assert tokens.labels == [IGNORED] * 6 + list(tokens.answer)


def test_what_is_learned_begins_where_the_model_is_asked(tokenizer):
    tokenise = Tokeniser(tokenizer)
    for prompt in ("Hull?", "Hull? ", "Hull?\n"):
        tokens = tokenise(Pair(prompt, "Hull 90%."))
        assert list(tokens.prompt) == tokenise.prompt(prompt)
    assert tokenizer.decode(tokenise(Pair("Hull?\n", "Hull.")).answer) == "Hull.</s>"


def test_a_plain_text_counts_whole(tokenizer):
    tokens = Tokeniser(tokenizer)(Text("Hull 90%."))
    assert tokenizer.decode(tokens.ids) == "<s>Hull 90%.</s>"
    assert all(tokens.counted)


@pytest.mark.parametrize("template", [PLAIN, CHATML])
def test_every_answer_of_a_conversation_counts_and_no_question(tokenizer, template):
    tokenizer.chat_template = template
    tokens = Tokeniser(tokenizer)(TALK)
    assert tokenizer.decode(tokens.answer) == "Hull 90%.</s>Crew 7.</s>"
    first = tokens.counted.index(True)
    assert list(tokens.ids[:first]) == Tokeniser(tokenizer).prompt(TALK.messages[:1])


def test_a_conversation_without_a_chat_template_is_refused(tokenizer):
    with pytest.raises(TrainingError, match="has no chat template[\\s\\S]*--chat-template chatml"):
        Tokeniser(tokenizer)(TALK)


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer):
    tokenizer.chat_template = "{{ messages | length }}" + PLAIN
    with pytest.raises(TrainingError, match="cannot tell the answers of a conversation apart"):
        Tokeniser(tokenizer)(TALK)


def test_what_is_cut_off_is_counted(tokenizer):
    tokens = Tokeniser(tokenizer, length=8)(Pair("Hull?", "Hull 90%."))
    assert tokens.cut == 9
    assert tokenizer.decode(tokens.answer) == " H"
    assert not any(Tokeniser(tokenizer, length=6)(Pair("Hull?", "Hull.")).counted)


def test_prompts_count_too_when_asked_for(tokenizer):
    tokens = Tokeniser(tokenizer, answers_only=False)(Pair("Hull?", "Hull 90%."))
    assert all(tokens.counted)
    assert tokens.labels == list(tokens.ids)


def test_a_template_that_is_no_text_is_named(tmp_path):
    assert template_of(tmp_path) is None
    (tmp_path / TEMPLATE).write_text("{{ messages }}")
    assert template_of(tmp_path) == "{{ messages }}"
    (tmp_path / TEMPLATE).write_bytes(b"\xff\xfe")
    with pytest.raises(BadAdapter, match="chat_template.jinja: a chat template is text in UTF-8"):
        template_of(tmp_path)
