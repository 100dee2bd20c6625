"""What one row of a data file can be, whatever the form it was written in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: `role` is system, user, assistant or tool."""

    role: str
    content: str


Turns = tuple[Message, ...]
Prompt = str | Turns


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text, learned whole."""

    text: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and the answer to learn."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation; what the assistant says is learned."""

    messages: Turns


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, the better one named (DPO, ORPO)."""

    prompt: Prompt
    chosen: Prompt
    rejected: Prompt


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer and whether it is a good one (KTO)."""

    prompt: Prompt
    answer: Prompt
    good: bool


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and its class (sequence classification)."""

    text: str
    label: str


Row = Text | Pair | Chat | Preference | Judged | Labelled


def prompt_of(row: Row) -> Prompt:
    """What the model is asked: everything before the last answer; empty for plain text."""
    match row:
        case Pair() | Preference() | Judged():
            return row.prompt
        case Chat():
            return row.messages[: last_answer(row.messages)]
        case _:
            return ""


def answer_of(row: Row) -> str:
    """The answer to learn or to expect: the last one of a conversation, the text or class of other rows.

    Empty where a row says only what is no good answer.
    """
    match row:
        case Pair():
            return row.answer
        case Chat():
            return row.messages[last_answer(row.messages)].content
        case Text():
            return row.text
        case Labelled():
            return row.label
        case Preference():
            return _text(row.chosen)
        case Judged():
            return _text(row.answer) if row.good else ""


def last_answer(messages: Turns) -> int:
    """The index of the assistant's last message."""
    return max(i for i, message in enumerate(messages) if message.role == "assistant")


def as_turns(prompt: Prompt, role: str = "user") -> Turns:
    """A prompt as a conversation; a string is one message of `role`."""
    return (Message(role, prompt),) if isinstance(prompt, str) else prompt


def _text(value: Prompt) -> str:
    return value if isinstance(value, str) else value[-1].content if value else ""
