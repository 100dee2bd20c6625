"""Data files as rows: the form is detected, broken rows are named or counted, nothing is held whole.

`DataFile.open(path).rows()` gives rows; `adaptkit.training.data.tokens` turns a row into tokens with their loss mask.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from adaptkit.errors import BadData
from adaptkit.io.files import open_plain, os_errors
from adaptkit.training.data.forms import FIELDS, FORMS, Form, detect
from adaptkit.training.data.records import kind_of, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from adaptkit.training.data.records import Record
    from adaptkit.training.data.rows import Row
    from adaptkit.types.facts import TrainingDataFacts


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is recorded of a data file: its name, digest, form, and how many rows were read and passed over."""

    label: str
    digest: str
    form: str
    rows: int
    skipped: int = 0

    def to_json(self) -> TrainingDataFacts:
        facts: TrainingDataFacts = {
            "label": self.label,
            "digest": self.digest,
            "form": self.form,
            "rows": self.rows,
        }
        if self.skipped:
            facts["skipped"] = self.skipped
        return facts


@dataclass(slots=True)
class DataFile:
    """One data file whose form is known. `count` and `skipped` grow while `rows()` is read."""

    path: Path
    kind: str
    form: Form
    columns: Mapping[str, str] = field(default_factory=dict)
    skip_bad: bool = False
    count: int = 0
    skipped: int = 0

    @classmethod
    def open(
        cls, path: Path, *, columns: Mapping[str, str] | None = None, skip_bad: bool = False
    ) -> Self:
        """Look at a file's first readable row; `columns` maps our fields to the file's own columns."""
        mapped = dict(columns or {})
        kind = kind_of(path)
        seen: dict[str, None] = {}
        broken: Record | None = None
        for record in read_records(path, kind):
            if record.columns is None:
                broken = broken or record
                if skip_bad:
                    continue
                raise _broken(path, kind, record, record.trouble)
            renamed = _renamed(record.columns, mapped)
            form = detect(renamed)
            if form is not None:
                return cls(path, kind, form, mapped, skip_bad)
            seen |= dict.fromkeys(record.columns)
            if not skip_bad:
                _refuse_missing(path, kind, record, renamed, mapped)
                break
        raise _unknown(path, list(seen), mapped) if seen else _no_row(path, kind, broken)

    def rows(self) -> Iterator[Row]:
        """Every row; `BadData` names the line of the first that cannot be read, unless `skip_bad` counts them."""
        self.count = self.skipped = 0
        for record in read_records(self.path, self.kind):
            try:
                row = self._row(record)
            except ValueError as error:
                if not self.skip_bad:
                    raise _broken(self.path, self.kind, record, str(error)) from error
                self.skipped += 1
                continue
            self.count += 1
            yield row
        if not self.count:
            raise BadData(
                f"{self.path} has no row that can be used",
                why=f"all {self.skipped} are broken",
                fix="look at the first without --skip-bad",
            )

    def facts(self) -> DataFacts:
        """What is recorded of the file once its rows were read."""
        with os_errors("read", self.path), open_plain(self.path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return DataFacts(
            self.path.name, f"sha256:{digest}", self.form.name, self.count, self.skipped
        )

    def _row(self, record: Record) -> Row:
        if record.columns is None:
            raise ValueError(record.trouble)
        renamed = _renamed(record.columns, self.columns)
        missing = [name for name in self.form.columns if renamed.get(name) is None]
        if missing:
            other = detect(renamed)
            mixed = f"it is of the form {other.name}, and " if other else ""
            raise ValueError(
                f"{mixed}'{missing[0]}' is missing, which the file's first row of the form "
                f"{self.form.name} has"
            )
        return self.form.parse(renamed)


def open_data(
    paths: Sequence[Path], *, columns: Mapping[str, str] | None = None, skip_bad: bool = False
) -> tuple[DataFile, ...]:
    """Several files of one family (answers, preferences, judgements or classes)."""
    files = tuple(DataFile.open(path, columns=columns, skip_bad=skip_bad) for path in paths)
    check_together(files)
    return files


def check_together(files: Sequence[DataFile]) -> None:
    """Refuse files of two families: what is trained on, replayed and measured goes through one trainer."""
    families: dict[str, DataFile] = {}
    for file in files:
        families.setdefault(file.form.family, file)
    if len(families) > 1:
        one, other = list(families.values())[:2]
        raise BadData(
            "the data files cannot be trained on together",
            why=f"{one.path} holds {one.form.family} and {other.path} holds {other.form.family}",
            fix="train on one after the other",
        )


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """`prompt=question,completion=reply` as {"prompt": "question", "completion": "reply"}."""
    columns: dict[str, str] = {}
    for text in (part for whole in texts for part in whole.split(",")):
        name, equals, column = text.partition("=")
        if not equals or not column or name not in FIELDS:
            raise BadData(
                f"cannot map the columns '{text}'",
                why=f"it is FIELD=COLUMN, and the fields are {', '.join(FIELDS)}",
                fix="for example: --columns prompt=question,completion=reply",
            )
        columns[name] = column
    return columns


def _renamed(record: Mapping[str, Any], columns: Mapping[str, str]) -> Mapping[str, Any]:
    if not columns:
        return record
    taken = set(columns.values())
    kept = {name: value for name, value in record.items() if name not in taken}
    return kept | {name: record.get(column) for name, column in columns.items()}


def _broken(path: Path, kind: str, record: Record, why: str) -> BadData:
    noun = _noun(kind)
    return BadData(
        f"{noun} {record.number} of {path} cannot be used",
        why=why,
        fix=f"fix the {noun}; train --skip-bad passes over such {noun}s and counts them",
    )


def _noun(kind: str) -> str:
    """What the number of a record counts in a file of this kind."""
    return "row" if kind in {"json", "parquet"} else "line"


def _no_row(path: Path, kind: str, broken: Record | None) -> BadData:
    """A file of nothing but broken rows, or of a header alone."""
    why = f"{_noun(kind)} {broken.number}: {broken.trouble}" if broken else "it holds none"
    return BadData(f"{path} has no row that can be used", why=why, fix="give a file with rows")


def _refuse_missing(
    path: Path,
    kind: str,
    record: Record,
    renamed: Mapping[str, Any],
    mapped: Mapping[str, str],
) -> None:
    """A row that has the columns of a form, one of them without a value, is no row of an unknown form."""
    form = detect(dict.fromkeys(renamed, True))
    if (
        form is not None
        and record.columns is not None
        and record.columns.keys() >= set(mapped.values())
    ):
        empty = next(name for name in form.columns if renamed[name] is None)
        raise _broken(path, kind, record, f"'{empty}' has no value")


def _unknown(path: Path, seen: Sequence[str], columns: Mapping[str, str]) -> BadData:
    absent = [column for column in columns.values() if column not in seen]
    if absent:
        return BadData(
            f"{path} has no column '{absent[0]}'",
            why=f"its columns are {_listed(seen)}",
            fix="check the names of your columns for a typo",
        )
    plain = {column.strip().casefold(): column for column in seen}
    if not columns and (meant := detect(dict.fromkeys(plain, True))) is not None:
        wanted = ",".join(f"{name}={plain[name]}" for name in meant.columns)
        return BadData(
            f"the form of {path} is not known",
            why=f"its columns {_listed(seen)} are written otherwise than those of {meant.name}",
            fix=f"--columns '{wanted}'",
        )
    forms = "; ".join(f"{form.name}: {', '.join(form.columns)}" for form in FORMS)
    return BadData(
        f"the form of {path} is not known",
        why=f"its columns are {_listed(seen)}; the forms are {forms}",
        fix="name its columns: --columns prompt=COLUMN,completion=COLUMN; in a suite's YAML, columns: …",
    )


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(sorted(columns))
