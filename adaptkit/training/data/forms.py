"""The forms in which people write training rows, detected by their columns.

Notable choices:
- the form is that of the first row; a later row of another form is an error with its line, never a guess
- a column of another name is mapped by the user (`--columns prompt=question`), never guessed
- alpaca rows become Stanford's own prompt (github.com/tatsu-lab/stanford_alpaca)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.training.data.rows import (
    Chat,
    Judged,
    Labelled,
    Message,
    Pair,
    Preference,
    Prompt,
    Row,
    Text,
    Turns,
    answer_of,
    prompt_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Record = Mapping[str, Any]

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
}
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)


@dataclass(frozen=True, slots=True)
class Form:
    """One form: its name, the columns it needs, and how a record becomes a row (ValueError says what is wrong)."""

    name: str
    columns: tuple[str, ...]
    parse: Callable[[Record], Row]
    family: str = "answers"  # answers | preferences | judgements | classes


def _string(record: Record, column: str) -> str:
    value = record.get(column)
    if not isinstance(value, str):
        raise ValueError(f"'{column}' is {_kind(value)}, not a text")  # noqa: TRY004  (a row's fault)
    return value


def _filled(record: Record, column: str) -> str:
    if not (value := _string(record, column)).strip():
        raise ValueError(f"'{column}' is empty")
    return value


def _kind(value: object) -> str:
    """What a value is, for a message; data files bring what JSON has, and Parquet dates, bytes and decimals."""
    names: dict[type, str] = {
        type(None): "missing",
        bool: "true or false",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    if type(value) in {int, float}:
        return f"the number {value!r}"[:40]
    return names.get(type(value), f"of the type {type(value).__name__}")


def _turns(value: object, column: str, role: str = "role", content: str = "content") -> Turns:
    if not isinstance(value, list) or not value:
        raise ValueError(f"'{column}' is {_kind(value)}, not a list of messages")
    turns = []
    for number, one in enumerate(value, 1):
        if not isinstance(one, dict):
            raise ValueError(f"message {number} of '{column}' is {_kind(one)}, not an object")  # noqa: TRY004
        who, text = one.get(role), one.get(content)
        if not isinstance(who, str) or who not in ROLES:
            raise ValueError(
                f"message {number} of '{column}' has the {role} {who!r}, not one of {', '.join(ROLES)}"
            )
        if not isinstance(text, str):
            raise ValueError(f"message {number} of '{column}' has no text in '{content}'")  # noqa: TRY004
        turns.append(Message(ROLES[who], text))
    return tuple(turns)


def _chat(turns: Turns, column: str) -> Chat:
    if turns[0].role == "assistant":
        raise ValueError(
            f"'{column}' begins with an answer of the assistant, and nothing asks for it"
        )
    answers = [m for m in turns if m.role == "assistant"]
    if not answers:
        raise ValueError(
            f"'{column}' has no message of the assistant, so there is nothing to learn"
        )
    if not any(m.content.strip() for m in answers):
        raise ValueError(f"every answer in '{column}' is empty")
    return Chat(turns)


def _messages(record: Record) -> Chat:
    return _chat(_turns(record.get("messages"), "messages"), "messages")


def _sharegpt(record: Record) -> Chat:
    value = record.get("conversations")
    openai = isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]
    keys = ("role", "content") if openai else ("from", "value")
    turns = _turns(value, "conversations", *keys)
    system = record.get("system")
    if isinstance(system, str) and system and turns[0].role != "system":
        turns = (Message("system", system), *turns)
    return _chat(turns, "conversations")


def _pair(record: Record) -> Row:
    if isinstance(record.get("prompt"), list):
        turns = _turns(record["prompt"], "prompt")
        answer = record.get("completion")
        if isinstance(answer, str):
            return _chat((*turns, Message("assistant", answer)), "completion")
        return _chat(turns + _turns(answer, "completion"), "completion")
    return Pair(_string(record, "prompt"), _filled(record, "completion"))


def _alpaca(record: Record) -> Pair:
    instruction, more = _filled(record, "instruction"), record.get("input") or ""
    if not isinstance(more, str):
        raise ValueError(f"'input' is {_kind(more)}, not a text")  # noqa: TRY004
    template = ALPACA_WITH_INPUT if more.strip() else ALPACA
    return Pair(template.format(instruction=instruction, input=more), _filled(record, "output"))


def _prompt(record: Record, column: str) -> Prompt:
    value = record.get(column)
    return _turns(value, column) if isinstance(value, list) else _string(record, column)


def _preference(record: Record) -> Preference:
    chosen, rejected = _prompt(record, "chosen"), _prompt(record, "rejected")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise ValueError("'chosen' and 'rejected' are not both texts or both lists of messages")
    if chosen == rejected:
        raise ValueError("'chosen' and 'rejected' are the same")
    if record.get("prompt") is not None:
        return Preference(_prompt(record, "prompt"), chosen, rejected)
    same = 0  # the conversation that both answers share is the prompt
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        same += 1
    if isinstance(chosen, str) or same == 0:
        raise ValueError("'prompt' is missing, and 'chosen' and 'rejected' share no beginning")
    return Preference(chosen[:same], chosen[same:], rejected[same:])


def _judged(record: Record) -> Judged:
    if not isinstance(good := record.get("label"), bool):
        raise ValueError(f"'label' is {_kind(good)}, not true or false")  # noqa: TRY004
    return Judged(_prompt(record, "prompt"), _prompt(record, "completion"), good)


def _labelled(record: Record) -> Labelled:
    label = record.get("label")
    if isinstance(label, bool) or not isinstance(label, (str, int)) or label == "":
        raise ValueError(f"'label' is {_kind(label)}, not a class")
    return Labelled(_filled(record, "text"), str(label))


def _text(record: Record) -> Text:
    return Text(_filled(record, "text"))


FORMS = (
    Form("preferences", ("chosen", "rejected"), _preference, "preferences"),
    Form("judgements", ("prompt", "completion", "label"), _judged, "judgements"),
    Form("messages", ("messages",), _messages),
    Form("sharegpt", ("conversations",), _sharegpt),
    Form("prompt/completion", ("prompt", "completion"), _pair),
    Form("alpaca", ("instruction", "output"), _alpaca),
    Form("classes", ("text", "label"), _labelled, "classes"),
    Form("text", ("text",), _text),
)
FIELDS = (*dict.fromkeys(field for form in FORMS for field in form.columns), "input", "system")


def asked_of(record: Record) -> tuple[Prompt, str]:
    """What a record asks and, where it says so, the answer; ValueError when it asks nothing."""
    if isinstance(record.get("messages"), list):
        turns = _turns(record["messages"], "messages")
        if turns[-1].role != "assistant":
            return turns, ""
        if len(turns) == 1:
            raise ValueError("'messages' has an answer, and no question before it")
        return turns[:-1], turns[-1].content
    form = detect(record)
    if form is None or form.family == "classes" or form.name == "text":
        prompt = _prompt(record, "prompt")
        if not prompt:
            raise ValueError("'prompt' is empty")
        return prompt, ""
    row = form.parse(record)
    return prompt_of(row), answer_of(row)


def detect(record: Record) -> Form | None:
    """The form whose columns a record has; None when it has those of no form."""
    present = {key for key, value in record.items() if value is not None}
    return next((form for form in FORMS if present.issuperset(form.columns)), None)
