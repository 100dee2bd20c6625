"""YAML from people and from remotes: checked event by event before anything is built from it.

Anchors and aliases can make little text very large, tags can load anything, and deep nesting takes a parser minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.io.files import os_errors

if TYPE_CHECKING:
    from pathlib import Path

DEEPEST = 12  # levels of tables and lists
LARGEST = 1 << 20  # bytes of a file that a person writes

CALLED = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "dict": "a table",
}
"""What a person calls the types of values."""


class BadYaml(ValueError):
    """A mistake in a text: its line (0: not of one), and why it is one."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}" if line else why)
        self.line, self.why = line, why
        self.at = f", line {line}" if line else ""
        """For after the name of the file."""


def check(text: str, deepest: int = DEEPEST) -> None:
    """Refuse what is not YAML or Unicode, is nested too deep, or holds an anchor, an alias or a tag."""
    import yaml

    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            line = event.start_mark.line + 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise BadYaml(
                    line, "it holds an anchor or an alias, which can make little text very large"
                )
            if getattr(event, "tag", None):
                raise BadYaml(line, "it holds a YAML tag, which can load anything, code too")
            if not _is_unicode(getattr(event, "value", None) or ""):
                raise BadYaml(line, "a text in it is no Unicode: it has half a surrogate pair")
            if depth > deepest:
                raise BadYaml(line, f"it is more than {deepest} levels deep")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or " ".join(str(error).split())[:200]
        raise BadYaml(mark.line + 1 if mark else 1, f"it is not YAML: {why}") from error


def load(text: str) -> Any:
    """The values of a text that passes `check`: plain texts, numbers, dates, lists and tables."""
    import yaml

    check(text)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # such as the date 2026-13-45
        mark = getattr(error, "problem_mark", None)
        raise BadYaml(
            mark.line + 1 if mark else 1, f"a value cannot be read: {' '.join(str(error).split())}"
        ) from error


def read(path: Path) -> Any:
    """The values of a file that a person wrote."""
    with os_errors("read", path):
        return load(read_text(path))


def read_text(path: Path) -> str:
    """The text of such a file; `BadYaml` where it is too large or no text."""
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise BadYaml(0, f"it is larger than {LARGEST:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadYaml(line, "it is not UTF-8") from error


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)
