"""Text is sent as it comes, without half characters and without what is stopped at."""

from __future__ import annotations

from adaptkit.serving.text import TextStream


class Bytes:
    """A tokenizer of single bytes."""

    def decode(self, tokens, skip_special_tokens):
        return bytes(tokens).decode(errors="replace")


def sent(text, *stop):
    stream = TextStream(Bytes(), stop)
    pieces = []
    for token in text.encode():
        pieces.append(stream.add(token))
        if stream.stopped:
            break
    return [*pieces, stream.end()], stream


def test_a_character_of_several_tokens_is_sent_when_it_is_whole():
    assert sent("é!")[0] == ["", "é", "!", ""]


def test_nothing_of_a_stop_text_is_sent():
    pieces, stream = sent("hull 90%END more", "END")
    assert "".join(pieces) == stream.text == "hull 90%"
    assert stream.stopped


def test_what_only_looks_like_a_stop_text_is_sent_after_all():
    pieces, stream = sent("an ENEMY, EN", "END")
    assert "".join(pieces) == "an ENEMY, EN"
    assert pieces[-1] == "EN"
    assert not stream.stopped


def test_the_first_of_several_stop_texts_counts():
    assert "".join(sent("a;b.c", ".", ";")[0]) == "a"
