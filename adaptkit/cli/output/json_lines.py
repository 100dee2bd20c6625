"""stderr with `--json`: whatever a library writes there becomes a note, so that every line is a JSON object."""

from __future__ import annotations

import json
from io import TextIOBase
from typing import TextIO

from adaptkit.cli.shell.inert import inert_json


class JsonLines(TextIOBase):
    """A text stream over another one; lines that are JSON objects already go through as they are."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text.replace("\r", "\n")).split("\n")
        for line in lines:
            self._put(line)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def finish(self) -> None:
        """Write what no line feed has ended."""
        begun, self._begun = self._begun, ""
        self._put(begun)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def _put(self, line: str) -> None:
        if line.strip():
            whole = _is_object(line)
            self._stream.write((line if whole else inert_json({"note": line}, indent=None)) + "\n")


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
