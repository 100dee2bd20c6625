"""Data files read as records, one at a time: JSON lines, a JSON array, CSV, TSV, Parquet, lines of plain text."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from adaptkit.errors import BadData, MissingExtra, text_of
from adaptkit.io.files import open_plain, os_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

LONGEST_LINE = 64 << 20  # bytes of one row; more is no row
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"PK\x03\x04": "zip",
}
_LOOK = 8192
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file: its line (or row) number, and its columns, or why it cannot be read."""

    number: int
    columns: Mapping[str, Any] | None
    trouble: str = ""


def kind_of(path: Path) -> str:
    """`jsonl`, `json`, `csv`, `tsv`, `parquet` or `text`, by content first and by the name where that is open."""
    with os_errors("read", path):
        if not path.exists():
            raise BadData(
                f"no data at {path}", why="the path does not exist", fix="check it for a typo"
            )
        if path.is_dir():
            raise BadData(
                f"{path} is a folder",
                why="data is a file",
                fix="give each file in it with --data FILE",
            )
        with open_plain(path) as file:
            start = file.read(_LOOK)
    if not start.strip(b"\xef\xbb\xbf \t\r\n"):
        raise BadData(f"{path} is empty", why="there is no row in it", fix="give a file with rows")
    if start.startswith(b"PAR1"):
        return "parquet"
    for sign, program in _COMPRESSED.items():
        if start.startswith(sign):
            raise BadData(
                f"{path} is compressed",
                why=f"it begins as {program} writes it",
                fix="unpack it first",
            )
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadData(f"cannot read {path}", why="it is UTF-16", fix="save it as UTF-8")
    if b"\0" in start:
        raise BadData(
            f"{path} is a binary file",
            why="it has NUL bytes",
            fix="give JSONL, JSON, CSV, Parquet or plain text in UTF-8",
        )
    suffix = path.suffix.lower()
    if suffix in {".csv", ".tsv"}:
        return suffix[1:]
    if suffix == ".parquet":
        raise BadData(f"{path} is not a Parquet file", why="it does not begin with PAR1")
    first = start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if suffix in {".json", ".jsonl", ".ndjson"} or (suffix != ".txt" and first == b"{"):
        return "json" if first == b"[" else "jsonl"
    return "text"


def read_records(path: Path, kind: str) -> Iterator[Record]:
    """Every record of a file, in order, holding one in memory (of Parquet, one batch)."""
    with os_errors("read", path):
        match kind:
            case "jsonl":
                yield from _json_lines(path)
            case "json":
                yield from _json_array(path)
            case "csv" | "tsv":
                yield from _table(path, "\t" if kind == "tsv" else None)
            case "parquet":
                yield from _parquet(path)
            case _:
                yield from _text(path)


def _lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Numbered lines; None stands for one that is not UTF-8."""
    with open_plain(path) as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise BadData(
                    f"line {number} of {path} is longer than {LONGEST_LINE >> 20} MB",
                    why="that is no row",
                    fix="write one row a line",
                )
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                yield number, None


_NOT_UTF8 = "it is not UTF-8"
_HALF = re.compile(r"\\u[dD][89abcdefABCDEF]")  # JSON may write one half of a pair


def _json_lines(path: Path) -> Iterator[Record]:
    for number, line in _lines(path):
        if line is None:
            yield Record(number, None, _NOT_UTF8)
        elif line.strip():
            yield _parsed(number, line)


def _parsed(number: int, text: str) -> Record:
    if text.strip() in {"{", "["}:
        trouble = "it is not a whole object: a row stands on one line, or all rows in one array"
        return Record(number, None, trouble)
    try:
        value = json.loads(text.rstrip(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return Record(number, None, f"it is not JSON ({error})")
    return _object(number, value, text)


def _object(number: int, value: object, text: str) -> Record:
    if isinstance(value, dict):
        if _HALF.search(text) and not _whole(value):
            return Record(number, None, "a text in it is no Unicode: it has half a surrogate pair")
        return Record(number, value)
    return Record(number, None, f"it is {json.dumps(value)[:40]}, not an object")


def _whole(value: object) -> bool:
    """Whether every text can be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a value JSON knows")


def _json_array(path: Path) -> Iterator[Record]:
    """The objects of one array, decoded from a window of the file."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    with open_plain(path) as file:
        text = _Window(path, file)
        text.skip(" \t\r\n\ufeff[")
        number = 0
        while not text.starts_with("]"):
            number += 1
            while True:
                try:
                    value, end = decoder.raw_decode(text.held)
                except (ValueError, RecursionError) as error:
                    if text.more(number):
                        continue
                    raise BadData(
                        f"cannot read {path} after row {number - 1}",
                        why=f"it is not JSON ({error})",
                        fix="an array cannot be read past a mistake: fix it, or write JSON lines",
                    ) from error
                break
            written = text.held[:end]
            text.drop(end)
            yield _object(number, value, written)
            text.skip(" \t\r\n,")


class _Window:
    """The part of a text file that is decoded next."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        import codecs

        self.held, self._path, self._file = "", path, file
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def more(self, row: int) -> bool:
        if len(self.held) > LONGEST_LINE:
            raise BadData(
                f"row {row} of {self._path} is longer than {LONGEST_LINE >> 20} MB",
                why="that is no row",
            )
        data = self._file.read(max(_PIECE, len(self.held)))
        try:
            self.held += self._decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise BadData(
                f"cannot read {self._path}", why="it is not UTF-8", fix="save it as UTF-8"
            ) from error
        return bool(data)

    def skip(self, characters: str) -> None:
        while True:
            self.held = self.held.lstrip(characters)
            if self.held or not self.more(0):
                return

    def starts_with(self, character: str) -> bool:
        if not self.held and not self.more(0):
            raise BadData(
                f"cannot read {self._path}",
                why="its array has no end",
                fix="write it again; it was cut off",
            )
        return self.held.startswith(character)

    def drop(self, count: int) -> None:
        self.held = self.held[count:]


def _table(path: Path, delimiter: str | None) -> Iterator[Record]:
    """Rows under a header; without a delimiter, that of the header counts."""
    csv.field_size_limit(LONGEST_LINE)
    number = 0

    def lines() -> Iterator[str]:
        nonlocal number
        for number, line in _lines(path):
            if line is None:
                raise BadData(
                    f"line {number} of {path} cannot be read", why=_NOT_UTF8, fix="save it as UTF-8"
                )
            yield line

    if delimiter is None:
        _, header = next(_lines(path), (1, None))
        delimiter = _delimiter(header or "")
    reader = csv.DictReader(lines(), delimiter=delimiter, strict=True)
    try:
        names = list(reader.fieldnames or ())
        if twice := [name for at, name in enumerate(names) if name in names[:at]]:
            raise BadData(
                f"cannot read {path}",
                why=f"its header names '{twice[0]}' twice",
                fix="rename one of the columns",
            )
        for row in reader:
            if None in row or None in row.values():
                yield Record(number, None, f"it has not the {len(reader.fieldnames or ())} columns")
            else:
                yield Record(number, row)
    except csv.Error as error:
        raise BadData(
            f"line {number} of {path} cannot be read", why=str(error), fix="quote its texts"
        ) from error


def _delimiter(header: str) -> str:
    """What stands between the columns of a header: a comma, or where it has none a semicolon or tab (spreadsheets)."""
    return next((sign for sign in ",;\t" if sign in header), ",")


def _parquet(path: Path) -> Iterator[Record]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(f"cannot read {path}", "train") from error
    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=256):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(number, row)
    except pa.ArrowException as error:
        raise BadData(
            f"cannot read {path}", why=text_of(error).partition("\n")[0], fix="write it again"
        ) from error


def _text(path: Path) -> Iterator[Record]:
    for number, line in _lines(path):
        if line is None:
            yield Record(number, None, _NOT_UTF8)
        elif line.strip():
            yield Record(number, {"text": line.rstrip("\r\n")})
