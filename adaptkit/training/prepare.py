"""Data files become the rows that a trainer reads: tokens with their mask, replay mixed in, evaluation rows apart.

Notable choices:
- rows go to an Arrow stream on disk, which trainers map: more rows than memory will do
- `--eval-split` goes by a hash of the prompt, so that no prompt is on both sides
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

from adaptkit.errors import BadData, MissingExtra, TrainingError
from adaptkit.io.files import os_errors
from adaptkit.training.data import replay
from adaptkit.training.data.rows import (
    Judged,
    Labelled,
    Preference,
    Prompt,
    Row,
    Text,
    answer_of,
    prompt_of,
)
from adaptkit.training.data.tokens import IGNORED, Tokeniser
from adaptkit.training.guards import Looked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from adaptkit.training.data.datasets import DataFacts, DataFile
    from adaptkit.training.data.tokens import Tokens
    from adaptkit.training.settings.config import TrainConfig

OBJECTIVES = {
    "answers": {"auto": "sft", "answers": "sft"},
    "classes": {"auto": "classify", "classes": "classify", "answers": "sft"},
    "preferences": {"auto": "dpo", "dpo": "dpo", "orpo": "orpo"},
    "judgements": {"auto": "kto", "kto": "kto"},
}
_BATCH = 500  # rows in one Arrow batch


@dataclass(slots=True)
class Prepared:
    """The files a trainer reads, and what was noticed on the way."""

    objective: str
    rows: Path
    eval_rows: Path | None = None
    looked: Looked = field(default_factory=Looked)
    eval_looked: Looked = field(default_factory=Looked)
    classes: tuple[str, ...] = ()
    data: tuple[DataFacts, ...] = ()
    eval_data: tuple[DataFacts, ...] = ()
    replay: replay.Replay | None = None
    shared_prompts: int = 0
    replay_again: int = 0
    """Replayed rows whose prompts are trained on anyway."""


def objective_of(files: Sequence[DataFile], task: str) -> str:
    """What the data is trained with: sft, classify, dpo, orpo or kto."""
    family = files[0].form.family
    fits = OBJECTIVES[family]
    if task not in fits:
        raise TrainingError(
            f"cannot train the task '{task}' on {files[0].path}",
            why=f"it holds {family}",
            fix=f"--task {' or '.join(name for name in fits if name != 'auto')}",
        )
    return fits[task]


def prepare(
    config: TrainConfig,
    seed: int,
    files: Sequence[DataFile],
    eval_files: Sequence[DataFile],
    replay_files: Sequence[DataFile],
    tokenizer: Any,
    base: Path,
    folder: Path,
    done: Callable[[int], None],
) -> Prepared:
    """Write `rows.arrow` (and `eval.arrow`) into `folder`."""
    objective = objective_of(files, config.task)
    tokenise = Tokeniser(tokenizer, length=config.length, answers_only=config.completion_only)
    classes = _classes((*files, *eval_files)) if objective == "classify" else ()
    made = Prepared(objective, folder / "rows.arrow", classes=classes)
    eval_path = folder / "eval.arrow"
    convert = _Converter(objective, tokenise, classes)
    learned: set[bytes] = set()
    with _Stream.open(made.rows) as rows, _Stream.open(eval_path) as held:
        for where, row in _numbered(files):
            key = _key(row)
            if config.eval_split and _share(key, seed) < config.eval_split:
                convert(row, where, held, made.eval_looked)
            else:
                learned.add(key)
                convert(row, where, rows, made.looked)
            done(1)
        shared: set[bytes] = set()
        for where, row in _numbered(eval_files):
            if (key := _key(row)) in learned:
                shared.add(key)
            convert(row, where, held, made.eval_looked)
        made.shared_prompts = len(shared)
        drawn = _mix(config, seed, made, replay_files, convert, rows, tokenizer, base, done)
        made.replay_again = sum(_key(row) in learned for row in drawn)
        held_count = held.count
    if made.looked.rows and (config.eval_split or eval_files):
        if not held_count:
            raise TrainingError(
                "no row is left to measure the loss on",
                why=f"--eval-split {config.eval_split:g} of {made.looked.rows} rows is none",
                fix="a larger share, or --eval-data FILE",
            )
        made.eval_rows = eval_path
    made.data = tuple(file.facts() for file in files)
    made.eval_data = tuple(file.facts() for file in eval_files)
    return made


def _mix(
    config: TrainConfig,
    seed: int,
    made: Prepared,
    files: Sequence[DataFile],
    convert: _Converter,
    rows: _Stream,
    tokenizer: Any,
    base: Path,
    done: Callable[[int], None],
) -> list[Row]:
    """Mix older rows in; returns those of files."""
    own = made.looked.rows
    if not own or not (files or config.replay_from_base):
        return []
    if convert.objective != "sft":
        raise TrainingError(
            f"cannot mix replay into {convert.objective} training",
            why="replay rows are answers",
            fix="leave out --replay",
        )
    drawn = replay.draw(files, replay.wanted(own, config.replay_ratio), seed) if files else []
    for where, row in drawn:
        convert(row, where, rows, made.looked)
    written = 0
    if config.replay_from_base:
        for tokens in replay.write_from_base(
            base, tokenizer, config.replay_from_base, min(config.length, 256), seed, done
        ):
            if convert.put(tokens, rows, made.looked):
                written += 1
    mixed = len(drawn) + written
    made.replay = replay.Replay(
        len(drawn), written, mixed / (own + mixed), tuple(file.facts() for file in files)
    )
    return [row for _, row in drawn]


class _Converter:
    """Rows of one objective as records of the stream."""

    def __init__(self, objective: str, tokenise: Tokeniser, classes: tuple[str, ...]) -> None:
        self.objective, self._tokenise = objective, tokenise
        self._classes = {name: number for number, name in enumerate(classes)}

    def __call__(self, row: Row, where: str, into: _Stream, looked: Looked) -> None:
        match row:
            case Preference():
                _, chosen = _joined(row.prompt, row.chosen)
                prompt, rejected = _joined(row.prompt, row.rejected)
                if self._fits(row.prompt, (row.chosen, row.rejected), where, looked):
                    into.add({"prompt": prompt, "chosen": chosen, "rejected": rejected})
            case Judged():
                prompt, answer = _joined(row.prompt, row.answer)
                if self._fits(row.prompt, (row.answer,), where, looked):
                    into.add({"prompt": prompt, "completion": answer, "label": row.good})
            case Labelled() if self.objective == "classify":
                tokens = self._tokenise(row)
                into.add({"input_ids": list(tokens.ids), "label": self._classes[row.label]})
                self._count(tokens, looked)
                if tokens.cut:
                    looked.note_cut(where)
            case _:
                tokens = self._tokenise(Text(row.text) if isinstance(row, Labelled) else row)
                if tokens.cut:
                    looked.note_cut(where)
                if not self.put(tokens, into, looked):
                    looked.note_masked(where)

    def put(self, tokens: Tokens, into: _Stream, looked: Looked) -> bool:
        """Write one row of tokens, unless no token counts: the first has no prediction."""
        if not any(tokens.counted[1:]):
            return False
        into.add({"input_ids": list(tokens.ids), "labels": tokens.labels})
        self._count(tokens, looked)
        return True

    def _fits(self, prompt: Prompt, answers: Sequence[Prompt], where: str, looked: Looked) -> bool:
        """Whether every answer has a token within the length; TRL cuts the rest off and says nothing."""
        texts = [one if isinstance(one, str) else one[-1].content for one in answers]
        found = [self._tokenise.asked(prompt, text) for text in texts]
        if any(tokens.cut for tokens in found):
            looked.note_cut(where)
        if not all(tokens.answered for tokens in found):
            looked.note_masked(where)
            return False
        looked.rows += 1
        looked.tokens += sum(len(tokens.ids) for tokens in found)
        looked.counted += sum(map(sum, (tokens.counted for tokens in found)))
        return True

    @staticmethod
    def _count(tokens: Tokens, looked: Looked) -> None:
        looked.rows += 1
        looked.tokens += len(tokens.ids)
        looked.counted += sum(label != IGNORED for label in tokens.labels)


class _Stream:
    """An Arrow stream on disk, written in batches; its columns are those of the first row."""

    def __init__(self, file: Any, path: Path) -> None:
        self.count, self._file, self._path = 0, file, path
        self._writer: Any = None
        self._schema: Any = None
        self._held: list[dict[str, Any]] = []

    @classmethod
    def open(cls, path: Path) -> Self:
        with os_errors("write", path):
            return cls(path.open("wb"), path)

    def add(self, record: dict[str, Any]) -> None:
        self._held.append(record)
        self.count += 1
        if len(self._held) >= _BATCH:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            if self._writer is not None:
                self._writer.close()
            self._file.close()

    def _flush(self) -> None:
        if not self._held:
            return
        try:
            import pyarrow as pa
        except ImportError as error:
            raise MissingExtra("cannot train", "train") from error
        try:
            batch = pa.RecordBatch.from_pylist(self._held, schema=self._schema)
        except pa.ArrowException as error:
            raise BadData(
                "the rows cannot be trained on together",
                why="some prompts are texts and others lists of messages",
                fix="write them all in one form",
            ) from error
        if self._writer is None:
            self._schema = batch.schema
            self._writer = pa.ipc.new_stream(self._file, batch.schema)
        with os_errors("write", self._path):
            self._writer.write_batch(batch)
        self._held = []


def _numbered(files: Sequence[DataFile]) -> Iterator[tuple[str, Row]]:
    for file in files:
        for number, row in enumerate(file.rows(), 1):
            yield f"row {number} of {file.path.name}", row


def _joined(prompt: Prompt, answer: Prompt) -> tuple[Any, Any]:
    """Prompt and answer as TRL reads them, joined by a space as everywhere else."""
    if isinstance(prompt, str) and isinstance(answer, str):
        apart = not prompt or prompt[-1].isspace() or answer[:1].isspace()
        return prompt, answer if apart else f" {answer}"
    return _turns(prompt, "user"), _turns(answer, "assistant")


def _turns(value: Prompt, role: str) -> list[dict[str, str]]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return [{"role": m.role, "content": m.content} for m in value]


def _classes(files: Sequence[DataFile]) -> tuple[str, ...]:
    names = {row.label for file in files for row in file.rows() if isinstance(row, Labelled)}
    if len(names) < 2:
        raise BadData(
            f"{files[0].path} has one class only",
            why=f"every label is {', '.join(names)}",
            fix="give rows of at least two classes, or --task answers",
        )
    return tuple(sorted(names))


def _key(row: Row) -> bytes:
    """What makes two rows the same question."""
    asked = prompt_of(row) or answer_of(row)
    if isinstance(row, Labelled):
        asked = row.text
    return sha256(repr(asked).encode()).digest()[:12]


def _share(key: bytes, seed: int) -> float:
    digest = sha256(key + str(seed).encode()).digest()
    return int.from_bytes(digest[:8]) / (1 << 64)
