"""Prompts, with their answers where there are any: what calibrating and distilling read.

Any data file will do, and its rows need no answers: whoever asks lets an adapter write those that are missing.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from adaptkit.errors import BadData
from adaptkit.io.files import open_plain, os_errors
from adaptkit.training.data.forms import asked_of
from adaptkit.training.data.records import kind_of, read_records
from adaptkit.training.data.rows import answer_of, prompt_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from adaptkit.training.data.datasets import DataFile
    from adaptkit.training.data.rows import Prompt

FORM = 'for example: {"prompt": "…", "completion": "…"}, or {"prompt": "…"} alone; docs/training.md has all forms'
Row = TypeVar("Row")
MOST_HELD_OUT = 64  # they are all looked at every few steps


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt, its answer (empty when it has none), and its line in the file."""

    prompt: Prompt
    answer: str
    line: int


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a file, each once, in its order, and the file's digest."""

    rows: tuple[Asked, ...]
    digest: str


def read_prompts(path: Path, most: int | None = None, seed: int = 0) -> Prompts:
    """The prompts of a file; with `most`, an even sample of that many, drawn while the file is read."""
    chance = random.Random(f"{seed}-prompts")  # noqa: S311  (a sample)
    kept: list[Asked] = []
    seen: set[Any] = set()
    for row in _rows(path):
        if row.prompt in seen:
            continue
        seen.add(row.prompt)
        if most is None or len(kept) < most:
            kept.append(row)
        elif (at := chance.randrange(len(seen))) < most:
            kept[at] = row
    with os_errors("read", path), open_plain(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Prompts(tuple(sorted(kept, key=lambda row: row.line)), digest)


def sample_rows(files: Sequence[DataFile], most: int, seed: int, among: int = 10_000) -> Prompts:
    """An even sample of rows that were trained on, of the first `among` of each file."""
    chance = random.Random(f"{seed}-prompts")  # noqa: S311  (a sample)
    kept: list[Asked] = []
    for number, row in enumerate(row for file in files for row in islice(file.rows(), among)):
        one = Asked(prompt_of(row), answer_of(row), number)
        if len(kept) < most:
            kept.append(one)
        elif (at := chance.randrange(number + 1)) < most:
            kept[at] = one
    digest = hashlib.sha256(repr([(one.prompt, one.answer) for one in kept]).encode()).hexdigest()
    return Prompts(tuple(sorted(kept, key=lambda one: one.line)), digest)


def _rows(path: Path) -> Iterator[Asked]:
    for record in read_records(path, kind_of(path)):
        try:
            if record.columns is None:
                raise ValueError(record.trouble)  # noqa: TRY301
            prompt, answer = asked_of(record.columns)
        except ValueError as error:
            raise BadData(
                f"line {record.number} of {path} is no prompt", why=str(error), fix=FORM
            ) from error
        yield Asked(prompt, answer, record.number)


def split(rows: Sequence[Asked], share: float, seed: int) -> tuple[list[Asked], list[Asked]]:
    """The rows to learn from and those held out, at least one of each and at most `MOST_HELD_OUT`; none is in both."""
    order = list(rows)
    random.Random(f"{seed}-held-out").shuffle(order)  # noqa: S311  (a sample)
    held = max(1, min(MOST_HELD_OUT, round(share * len(order))))
    return order[held:], order[:held]


def endless(rows: Sequence[Row], seed: str) -> Iterator[Row]:
    """Rows without end: shuffled anew each time all have been drawn."""
    chance = random.Random(seed)  # noqa: S311  (an order)
    left: list[Row] = []
    while True:
        if not left:
            left.extend(rows)
            chance.shuffle(left)
        yield left.pop()
