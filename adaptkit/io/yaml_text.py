"""YAML from people and from remotes: checked event by event before anything is built from it.

Anchors and aliases can make little text very large, tags can load anything, and deep nesting takes a parser minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from adaptkit.errors import nearest
from adaptkit.io.files import os_errors
from adaptkit.types.limits import is_unicode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

T = TypeVar("T")

DEEPEST = 12  # levels of tables and lists
LARGEST = 1 << 20  # bytes of a file that a person writes

CALLED = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "dict": "a table",
}
_MSGSPEC = {"array": "a list", "object": "a table", "null": "empty"}
"""What a person calls the types of values."""


class BadYaml(ValueError):
    """A mistake in a text: its line (0: not of one), why it is one, and what to do, to go before more advice."""

    def __init__(self, line: int, why: str, fix: str = "") -> None:
        super().__init__(f"line {line}: {why}" if line else why)
        self.line, self.why, self.fix = line, why, fix
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
            if not is_unicode(getattr(event, "value", None) or ""):
                raise BadYaml(line, "a text in it is no Unicode: it has half a surrogate pair")
            if depth > deepest:
                raise BadYaml(line, f"it is more than {deepest} levels deep")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or " ".join(str(error).split())[:200]
        raise BadYaml(mark.line + 1 if mark else 1, f"it is not YAML: {why}") from error


def load(text: str) -> Any:
    """The values of a text that passes `check`: plain texts, numbers, dates, lists and tables."""
    return document(text).value


@dataclass(frozen=True, slots=True)
class Document:
    """The values of a text, with the lines they are on."""

    value: Any
    lines: Mapping[tuple[str, ...], int]

    def line(self, *where: str | int) -> int:
        """The line of the innermost of these keys, and numbers of items from 0, that the text has."""
        keys = tuple(map(str, where))
        return next(
            self.lines[keys[:end]] for end in range(len(keys), -1, -1) if keys[:end] in self.lines
        )


def document(text: str, deepest: int = DEEPEST) -> Document:
    """The values of a text that passes `check`, with their lines; a key that occurs twice is refused."""
    import yaml

    check(text, deepest)
    lines: dict[tuple[str, ...], int] = {(): 1}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return Document(None, lines)
        _note_lines(node, (), lines)
        return Document(yaml.SafeLoader("").construct_document(node), lines)
    except yaml.YAMLError as error:  # such as a list as a key
        raise _unreadable(error, getattr(error, "problem_mark", None)) from error


def read(path: Path) -> Document:
    """The values of a file that a person wrote."""
    with os_errors("read", path):
        return document(read_text(path))


def parse(found: Document, kind: type[T]) -> T:
    """The values as a `kind` of msgspec.Struct; `BadYaml` for everything that it does not allow."""
    import msgspec

    from adaptkit.io.struct_mistakes import called, tables_of, taken_apart, wanted
    from adaptkit.types.checks.convert import convert

    _check_keys(found.value, (), found)
    try:
        return convert(found.value, kind)
    except msgspec.ValidationError as error:
        mistake = taken_apart(str(error), found.value, kind)
    line, where = found.line(*mistake.where), mistake.where
    if mistake.what == "unknown":
        known = list(tables_of(mistake.kind))
        near = nearest(str(where[-1]), known, show=1)[0]
        why = f"{called(where[:-1])} has no key '{where[-1]}', nearest is '{near}'"
        raise BadYaml(line, why, f"known are {', '.join(known)}; ")
    if mistake.what == "missing":
        raise BadYaml(
            line, f"{called(where)} has no '{mistake.detail}'", f"add {mistake.detail}: …; "
        )
    raise BadYaml(line, f"{called(where)} {wanted(mistake.detail, CALLED | _MSGSPEC)}")


def _check_keys(value: Any, where: tuple[str, ...], found: Document) -> None:
    """Refuse keys that YAML takes for something else than texts: `on`, `off`, `yes`, `no` and numbers."""
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value if isinstance(value, list) else ())
    )
    for key, inner in parts:
        if isinstance(value, dict) and not isinstance(key, str):
            written = next(
                (
                    one[-1]
                    for one in found.lines
                    if one and one[:-1] == where and one[-1] not in value
                ),
                str(key),
            )
            taken = CALLED.get(type(key).__name__, "something else than a text")
            why = f"YAML takes the key '{written}' for {taken}"
            raise BadYaml(
                found.line(*where, written),
                why,
                f'if it is meant, write "{written}" with its quotes; ',
            )
        _check_keys(inner, (*where, str(key)), found)


def _note_lines(node: Any, where: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> None:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner, line = (*where, str(key.value)), key.start_mark.line + 1
            if inner in lines:
                raise BadYaml(line, f"the key '{key.value}' occurs twice")
            lines[inner] = line
            if isinstance(key, yaml.ScalarNode):
                _check_scalar(key)
            _note_lines(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            inner = (*where, str(number))
            lines[inner] = item.start_mark.line + 1
            _note_lines(item, inner, lines)
    else:
        _check_scalar(node)


def _check_scalar(node: Any) -> None:
    import yaml

    try:
        yaml.SafeLoader("").construct_object(node)
    except ValueError as error:  # such as the date 2026-13-45, or a number of 5,000 digits
        raise _unreadable(error, node.start_mark) from error


def _unreadable(error: Exception, mark: Any) -> BadYaml:
    why = " ".join(str(error).split())
    return BadYaml(mark.line + 1 if mark else 1, f"a value cannot be read: {why}")


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
