"""Suites: rows to ask an adapter, and how an answer is scored.

A data file (docs/training.md lists the forms) is a suite by itself: answers are compared exactly, plain texts give a
perplexity, preferences are compared in pairs. A YAML file says it in words:

    name: naval
    data: naval-held-out.jsonl
    score: contains          # exact, contains, regex, json, perplexity or pairwise
    rows: 90                 # the first so many
    new_tokens: 40           # the longest answer

A YAML file that names a task of lm-evaluation-harness (`lm_eval:`) is a suite as well (`evaluation.harness`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadData, NotFound
from adaptkit.evaluation.harness import Harness, files_of, harness_of
from adaptkit.io import yaml_text
from adaptkit.io.files import os_errors
from adaptkit.training.data.datasets import DataFile, parse_columns
from adaptkit.training.data.rows import Preference, Row, Text, answer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}")
_KEYS = frozenset({"name", "data", "score", "rows", "new_tokens", "columns"})
_DATA = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt")


@dataclass(frozen=True, slots=True)
class Suite:
    """Rows with a way to score them. `digest` is that of rows and way, so that equal figures mean equal suites."""

    name: str
    score: str
    rows: tuple[Row, ...]
    new_tokens: int = 64
    harness: Harness | None = None
    """A task of lm-evaluation-harness, which then has the rows."""

    @property
    def size(self) -> int:
        """How many rows there are; of a task of the harness, as many as are asked for, or 100."""
        return len(self.rows) if self.harness is None else self.harness.limit or 100

    @property
    def digest(self) -> str:
        if self.harness is not None:
            return self.harness.digest
        parts = repr((self.score, self.rows, self.new_tokens)).encode()
        return "sha256:" + hashlib.sha256(parts).hexdigest()

    @property
    def higher_is_better(self) -> bool:
        return self.score != "perplexity" if self.harness is None else self.harness.higher_is_better


def exact(answer: str, expected: str) -> bool:
    """The same text, apart from space around it."""
    return answer.strip() == expected.strip()


def contains(answer: str, expected: str) -> bool:
    """The expected text somewhere in the answer."""
    return expected.strip() in answer


def matches(answer: str, expected: str) -> bool:
    """The expected regex, found somewhere in the answer."""
    return re.search(expected, answer) is not None


def valid_json(answer: str, _expected: str) -> bool:
    """An answer that is one JSON value."""
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return True


SCORERS: dict[str, Callable[[str, str], bool]] = {
    "exact": exact,
    "contains": contains,
    "regex": matches,
    "json": valid_json,
}
SCORES = (*SCORERS, "perplexity", "pairwise")


def read_suites(paths: Sequence[Path]) -> tuple[Suite, ...]:
    """The suites of files and folders; each name once."""
    found: dict[str, Suite] = {}
    for path in paths:
        for file in _files(path):
            suite = _from_yaml(file) if file.suffix in {".yaml", ".yml"} else _from_data(file)
            if suite.name in found:
                raise BadData(
                    f"two suites are called '{suite.name}'",
                    why=f"{file} is the second",
                    fix="rename the file, or give it a name: in YAML",
                )
            found[suite.name] = suite
    return tuple(found.values())


def _files(path: Path) -> list[Path]:
    with os_errors("read", path):
        if not path.is_dir():
            return [path]
        suffixes = {*_DATA, ".yaml", ".yml"}
        files = sorted(p for p in path.iterdir() if p.suffix in suffixes and p.is_file())
    described = [p for p in files if p.suffix in {".yaml", ".yml"}]
    taken = {os.path.realpath(named) for p in described for named in _named(p)}
    chosen = [p for p in files if os.path.realpath(p) not in taken]
    if not chosen:
        raise BadData(
            f"there is no suite in {path}",
            why="it holds no data file and no YAML",
            fix="give a file, such as naval.jsonl",
        )
    return chosen


def _named(path: Path) -> Iterator[Path]:
    """The files that a suite's YAML names, which are no suites themselves."""
    found = _yaml(path, whole=False).value
    if isinstance(found.get("data"), str):
        yield path.parent / found["data"]
    if isinstance(found.get("lm_eval"), str):
        yield from files_of(path.parent / found["lm_eval"])


def _from_data(path: Path, **choices: Any) -> Suite:
    data = DataFile.open(path, columns=parse_columns(choices.get("columns", ())))
    if data.form.family in {"judgements", "classes"}:
        raise BadData(
            f"{path} is no suite",
            why=f"it holds {data.form.name}, which say no answer that a model is to write",
            fix="give prompts with the right answers, texts, or preferences",
        )
    rows = tuple(islice(data.rows(), choices.get("rows")))
    if all(isinstance(row, Preference) for row in rows):
        natural = "pairwise"
        fits: tuple[str, ...] = ("pairwise",)
    elif all(isinstance(row, Text) for row in rows):
        natural, fits = "perplexity", ("perplexity",)
    else:
        natural, fits = "exact", (*SCORERS, "perplexity")
    score = choices.get("score", natural)
    if score not in fits:
        raise BadData(
            f"{path} cannot be scored by '{score}'",
            why=f"it holds {data.form.name}",
            fix=f"score: {' or '.join(fits)}",
        )
    if score == "regex":
        _check_regexes(path, rows)
    name = _checked_name(choices.get("name", path.stem), path)
    return Suite(name, score, rows, choices.get("new_tokens", 64))


def _checked_name(name: Any, path: Path) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadData(
            f"a suite cannot be called '{name}'",
            why="its name becomes part of a metric's: letters, digits, '.', '_' and '-'",
            fix=f"rename {path}",
        )
    return name


def _from_yaml(path: Path) -> Suite:
    text = _yaml(path)
    given: dict[str, Any] = dict(text.value)
    if "lm_eval" in given:
        harness = harness_of(path, text)
        name = _checked_name(given.get("name", path.stem), path)
        return Suite(name, harness.metric, (), harness=harness)
    for key, value in given.items():
        if key not in _KEYS:
            raise NotFound("key of a suite", str(key), _KEYS).at(f"{path}, line {text.line(key)}")
        if key in {"rows", "new_tokens"} and (type(value) is not int or value < 1):
            raise BadData(
                f"{path}, line {text.line(key)}: {key} is {value!r}",
                why="it is a whole number from 1",
            )
    if given.get("score", SCORES[0]) not in SCORES:
        place = f"{path}, line {text.line('score')}"
        raise NotFound("score", str(given["score"]), SCORES).at(place)
    if isinstance(given.get("columns"), dict):
        given["columns"] = [f"{key}={value}" for key, value in given["columns"].items()]
    data = path.parent / given.pop("data")
    return _from_data(data, **{"name": path.stem} | given)


def _yaml(path: Path, *, whole: bool = True) -> yaml_text.Document:
    """The text of a suite's file, which is a table; with `whole`, one that says what is asked."""
    try:
        text = yaml_text.read(path)
    except yaml_text.BadYaml as error:
        raise BadData(
            f"cannot read {path}{error.at}",
            why=error.why,
            fix="docs/evaluation.md shows one",
        ) from error
    found = text.value
    if isinstance(found, dict) and ("lm_eval" in found or not whole):
        return text
    if not isinstance(found, dict) or not isinstance(found.get("data"), str):
        raise BadData(
            f"{path} is no suite", why="it names no data file", fix="data: naval.jsonl, for example"
        )
    return text


def _check_regexes(path: Path, rows: Sequence[Row]) -> None:
    for number, row in enumerate(rows, 1):
        try:
            re.compile(answer_of(row))
        except re.error as error:
            raise BadData(
                f"row {number} of {path} is no regex", why=str(error), fix="escape it"
            ) from error
