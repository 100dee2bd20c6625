"""Rows as tokens, each with whether it counts in the loss.

Notable choices:
- prompt and answer are tokenised apart and then joined: what the model reads in training is then exactly what it
  reads when it is asked, whatever the tokenizer would merge across the boundary
- a space joins a prompt and an answer that have none between them
- a chat template that marks answers (`{% generation %}`) is believed; else each answer is what the template adds
  to the conversation before it
- `CHATML` ends a turn with the end token that the base already knows, so that an answer ends
- a row is cut at the end, and whether an answer lost tokens is counted, never silent
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadAdapter, TrainingError
from adaptkit.io.files import read_plain
from adaptkit.training.data.rows import Chat, Labelled, Pair, Prompt, Row, Text, Turns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TEMPLATE = "chat_template.jinja"
"""The file in which an adapter brings along how its conversations are written."""
IGNORED = -100  # the label that torch's cross entropy leaves out
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + eos_token }}{% endgeneration %}"
    "{{ '\n' }}{% else %}{{ m['content'] + eos_token + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_MARKS_ANSWERS = re.compile(r"\{%-?\s*generation\b")  # not `add_generation_prompt`


def template_of(adapter: Path) -> str | None:
    """The chat template that an adapter's folder brings along; None where it has none."""
    file = adapter / TEMPLATE
    if not file.is_file():
        return None
    try:
        return read_plain(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadAdapter(
            f"cannot use {file}",
            why="a chat template is text in UTF-8",
            fix="take it out of the adapter's folder, and add that again",
        ) from error


@dataclass(frozen=True, slots=True)
class Tokens:
    """One row as the model reads it: `counted` says of each token whether it is in the loss; `cut` were cut off."""

    ids: tuple[int, ...]
    counted: tuple[bool, ...]
    cut: int = 0

    @property
    def labels(self) -> list[int]:
        """The labels of the loss: the token where it counts, else `IGNORED`."""
        return [i if yes else IGNORED for i, yes in zip(self.ids, self.counted, strict=True)]

    @property
    def prompt(self) -> tuple[int, ...]:
        """Everything before the first token that counts."""
        return self.ids[: next((i for i, yes in enumerate(self.counted) if yes), len(self.ids))]

    @property
    def answered(self) -> bool:
        """Whether any token counts."""
        return any(self.counted)

    @property
    def answer(self) -> tuple[int, ...]:
        """The tokens that count."""
        return tuple(i for i, yes in zip(self.ids, self.counted, strict=True) if yes)


class Tokeniser:
    """Turns rows into tokens with the base's own tokenizer. `length` is the longest row, in tokens."""

    def __init__(
        self, tokenizer: Any, *, length: int | None = None, answers_only: bool = True
    ) -> None:
        self.tokenizer, self.length, self.answers_only = tokenizer, length, answers_only

    def __call__(self, row: Row) -> Tokens:
        """One row; of a preference or a class, its text."""
        match row:
            case Chat():
                ids, counted = self._chat(row.messages)
            case Pair():
                question, answer = self.prompt(row.prompt), self._answer(row.prompt, row.answer)
                ids = question + answer
                counted = [False] * len(question) + [True] * len(answer)
            case Text():
                ids = self._plain(row.text) + self._end()
                counted = [True] * len(ids)
            case Labelled():
                ids = self._plain(row.text)
                counted = [True] * len(ids)
            case _:
                raise TypeError(f"{type(row).__name__} has no single answer")
        if not self.answers_only:
            counted = [True] * len(ids)
        keep = len(ids) if self.length is None else self.length
        return Tokens(tuple(ids[:keep]), tuple(counted[:keep]), max(0, len(ids) - keep))

    def prompt(self, prompt: Prompt) -> list[int]:
        """The tokens that a model is given to answer."""
        if isinstance(prompt, str):
            return self._plain(prompt)
        self._need_template()
        return self._render(prompt, add_generation_prompt=True)

    def asked(self, prompt: Prompt, answer: str) -> Tokens:
        """A prompt with one answer behind it, which alone counts; an empty answer leaves the prompt alone."""
        question = self.prompt(prompt)
        before = prompt if isinstance(prompt, str) else ""
        ids = question + (self._answer(before, answer) if answer else [])
        keep = len(ids) if self.length is None else self.length
        counted = [at >= len(question) for at in range(len(ids))]
        return Tokens(tuple(ids[:keep]), tuple(counted[:keep]), max(0, len(ids) - keep))

    def _answer(self, prompt: str, answer: str) -> list[int]:
        apart = not prompt or prompt[-1].isspace() or answer[:1].isspace()
        text = answer if apart else f" {answer}"
        return [*self.tokenizer.encode(text, add_special_tokens=False), *self._end()]

    def _plain(self, text: str) -> list[int]:
        ids = list(self.tokenizer.encode(text, add_special_tokens=False))
        start = self.tokenizer.bos_token_id
        return ids if start is None or ids[:1] == [start] else [start, *ids]

    def _end(self) -> list[int]:
        return [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]

    def _chat(self, messages: Turns) -> tuple[list[int], list[bool]]:
        self._need_template()
        if _MARKS_ANSWERS.search(self.tokenizer.chat_template):
            out = self._templated(messages, return_assistant_tokens_mask=True)
            return list(out["input_ids"]), [bool(m) for m in out["assistant_masks"]]
        whole = self._render(messages)
        counted = [False] * len(whole)
        for i, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self._render(messages[:i], add_generation_prompt=True)
            after = self._render(messages[: i + 1])
            if whole[: len(before)] != before:
                before = self._render(messages[:i])
            if whole[: len(before)] != before or whole[: len(after)] != after:
                raise TrainingError(
                    "cannot tell the answers of a conversation apart",
                    why="the chat template writes earlier turns differently once later ones follow",
                    fix="give a template that marks answers with {% generation %}: --chat-template FILE",
                )
            counted[len(before) : len(after)] = [True] * (len(after) - len(before))
        return whole, counted

    def _render(self, messages: Sequence[Any], **how: Any) -> list[int]:
        return list(self._templated(messages, **how)["input_ids"])

    def _templated(self, messages: Sequence[Any], **how: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(
                _dicts(messages), tokenize=True, return_dict=True, **how
            )
        except Exception as error:  # templates refuse with exceptions of their own
            roles = ", ".join(message.role for message in messages) or "none"
            raise TrainingError(
                f"the chat template cannot write a conversation of the roles {roles}",
                why=str(error).splitlines()[0] if str(error) else type(error).__name__,
                fix="--chat-template FILE with one that can, or data with the turns that it takes",
            ) from error

    def _need_template(self) -> None:
        if not getattr(self.tokenizer, "chat_template", None):
            name = getattr(self.tokenizer, "name_or_path", "") or "the base"
            raise TrainingError(
                f"the tokenizer of {name} has no chat template",
                why="the data is a conversation, and nothing says how a conversation is written for this base",
                fix="adaptkit train takes --chat-template chatml, or FILE with the template of its family, and the adapter "
                "brings it along",
            )


def _dicts(messages: Sequence[Any]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]
