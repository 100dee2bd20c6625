"""Prompts, with their answers where there are any, as tokens: what calibrating and distilling read.

JSON Lines with `prompt` and (if known) `completion`, or `messages`. Prompt and answer are tokenised apart, begin token
first and end token last, as in training.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError
from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LONGEST_LINE = 4 << 20  # bytes
FORM = 'each line is {"prompt": "…", "completion": "…"} (the completion may be missing) or {"messages": […]}'


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, its answer ("" when it has none), and the line it stands in."""

    text: str | tuple[tuple[str, str], ...]
    answer: str
    line: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """One row as the model reads it: the answer, which is what counts, begins at `start`."""

    ids: tuple[int, ...]
    start: int

    @property
    def answered(self) -> bool:
        return self.start < len(self.ids)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a file, each once, in its order, and the file's digest."""

    rows: tuple[Prompt, ...]
    digest: str


def read_prompts(path: Path, most: int | None = None, seed: int = 0) -> Prompts:
    """The prompts of a file; with `most`, an even sample of that many, drawn while it streams by."""
    chance, digest = random.Random(f"{seed}-prompts"), sha256()  # noqa: S311  (a sample)
    kept: list[Prompt] = []
    seen, count = set[str](), 0
    for number, line in _lines(path):
        digest.update(line)
        if not line.strip():
            continue
        row = _parse(path, number, line)
        key = repr(row.text)
        if key in seen:
            continue
        seen.add(key)
        count += 1
        if most is None or len(kept) < most:
            kept.append(row)
        elif (place := chance.randrange(count)) < most:
            kept[place] = row
    if not kept:
        raise AdaptkitError(f"there is no prompt in {path}", why="it is empty", fix=FORM)
    return Prompts(tuple(sorted(kept, key=lambda row: row.line)), digest.hexdigest())


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with os_errors("read", path), path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise _broken(path, number, f"it has more than {LONGEST_LINE:,} bytes")
            yield number, line


def _parse(path: Path, number: int, line: bytes) -> Prompt:
    try:
        found = json.loads(line.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _broken(path, number, "it is no JSON in UTF-8") from error
    if not isinstance(found, dict):
        raise _broken(path, number, "it is no JSON object")
    if "messages" in found:
        return _chat(path, number, found["messages"])
    prompt, answer = found.get("prompt"), found.get("completion", "")
    if not isinstance(prompt, str) or not prompt or not isinstance(answer, str):
        raise _broken(path, number, "its prompt is no text")
    return Prompt(prompt, answer, number)


def _chat(path: Path, number: int, messages: Any) -> Prompt:
    try:
        turns = [(str(one["role"]), str(one["content"])) for one in messages]
    except (KeyError, TypeError) as error:
        raise _broken(path, number, "a message has a role and a content") from error
    answer = turns.pop()[1] if turns and turns[-1][0] == "assistant" else ""
    if not turns:
        raise _broken(path, number, "it asks nothing")
    return Prompt(tuple(turns), answer, number)


def _broken(path: Path, number: int, why: str) -> AdaptkitError:
    return AdaptkitError(f"cannot read line {number} of {path}", why=why, fix=FORM)


def encode(tokenizer: Any, row: Prompt, longest: int | None = None) -> Tokens:
    """One row as tokens; what is longer than `longest` is cut at the end."""
    if isinstance(row.text, str):
        question = list(tokenizer.encode(row.text, add_special_tokens=False))
        begin = tokenizer.bos_token_id
        if begin is not None and question[:1] != [begin]:
            question = [begin, *question]
    else:
        if not getattr(tokenizer, "chat_template", None):
            raise AdaptkitError(
                "the base's tokenizer has no chat template",
                why="the prompts are conversations, and nothing says how one is written for this base",
                fix='give plain prompts: {"prompt": "…", "completion": "…"}',
            )
        question = list(
            tokenizer.apply_chat_template(
                [{"role": role, "content": content} for role, content in row.text],
                tokenize=True,
                return_dict=True,
                add_generation_prompt=True,
            )["input_ids"]
        )
    answer: list[int] = []
    if row.answer:
        apart = isinstance(row.text, tuple) or row.text[-1].isspace() or row.answer[0].isspace()
        text = row.answer if apart else f" {row.answer}"
        end = tokenizer.eos_token_id
        answer = [
            *tokenizer.encode(text, add_special_tokens=False),
            *([] if end is None else [end]),
        ]
    ids = tuple((question + answer)[:longest])
    return Tokens(ids, min(len(question), len(ids)))


def split(rows: Sequence[Prompt], share: float, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """The rows to learn from and those held out, at least one of each; no prompt is in both."""
    order = list(rows)
    random.Random(f"{seed}-held-out").shuffle(order)  # noqa: S311  (a sample)
    held = max(1, round(share * len(order)))
    return order[held:], order[:held]
