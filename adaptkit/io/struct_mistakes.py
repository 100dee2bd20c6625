"""What msgspec says of a table that people write, taken apart: where the mistake is, which one, and the reader's words.

msgspec names a place by a path such as `$.rules[0].names`, and types by its own names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Mapping

Where = tuple[str | int, ...]
"""Keys, and numbers of items in a list, from 0."""

_MESSAGE = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|(\[\.\.\.\])")


@dataclass(frozen=True, slots=True)
class Mistake:
    """`where` a mistake is, with the type expected there; an unknown key is the last of `where`."""

    what: Literal["unknown", "missing", "value"]
    where: Where
    kind: Any
    detail: str
    """The key that is missing, or msgspec's message about a value."""


def taken_apart(message: str, table: Any, kind: Any) -> Mistake:
    """The mistake that a `msgspec.ValidationError` of converting `table` to `kind` is about."""
    found = _MESSAGE.fullmatch(message)
    assert found is not None
    message, path = found[1], found[2] or ""
    where, inner = _walk(path, table, kind)
    if named := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        return Mistake("unknown", (*where, named[1]), inner, "")
    if named := re.fullmatch(r"Object missing required field `(.*)`", message):
        return Mistake("missing", where, inner, named[1])
    return Mistake("value", where, inner, message)


def called(where: Where, whole: str = "the file") -> str:
    """`'policy.file'`, or `'names' in number 2 of rules`."""
    if not where:
        return whole
    for table, number in pairwise(where):
        if isinstance(number, int):
            keys = ".".join(str(step) for step in where[where.index(number) + 1 :])
            place = f"number {number + 1} of {table}"
            return f"'{keys}' in {place}" if keys else place
    return f"'{'.'.join(map(str, where))}'"


def wanted(message: str, kinds: Mapping[str, str]) -> str:
    """Msgspec's words in the reader's: Expected `str`, got `int`."""
    if named := re.fullmatch(r"Expected `(.*)`, got `(.*)`", message):
        options = [one for one in named[1].split(" | ") if one != "null"]
        expected = " or ".join(kinds.get(one, one) for one in options)
        return f"is {kinds.get(named[2], named[2])}, and must be {expected}"
    if re.fullmatch(r"Expected `\w+` of length >= 1", message):
        return "is empty"
    return message


def tables_of(kind: Any) -> Mapping[str, Any]:
    """The fields of a Struct with their types; empty for anything else."""
    from msgspec import structs

    return {field.name: field.type for field in structs.fields(kind)} if is_struct(kind) else {}


def is_struct(kind: Any) -> bool:
    from msgspec import Struct

    return isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, Struct)


def _walk(path: str, value: Any, kind: Any) -> tuple[Where, Any]:
    """The keys on the way to what msgspec names by a path, and the type there."""
    from msgspec import ValidationError, convert

    where: list[str | int] = []
    for step in _STEP.finditer(path):
        if step[1]:
            where.append(step[1])
            value, kind = value[step[1]], _given(tables_of(kind)[step[1]])
            continue
        kind = _given(get_args(_given(kind, list if step[2] else dict))[-1 if step[3] else 0])
        if step[2]:
            where.append(int(step[2]))
            value = value[int(step[2])]
            continue
        for key, one in value.items():  # msgspec does not say which of them
            try:
                convert(one, kind)
            except ValidationError:
                where.append(key)
                value = one
                break
    return tuple(where), kind


def _given(kind: Any, holds: type | None = None) -> Any:
    """What a value has that is there: the type of a field that may be missing, or its list or table."""
    options = [one for one in get_args(kind) if one is not type(None)]
    if get_origin(kind) in {None, tuple, list, dict} or not options:
        return kind
    if holds is not None:
        origins = (dict,) if holds is dict else (list, tuple)
        return next((one for one in options if get_origin(one) in origins), kind)
    return options[0] if len(options) == 1 else kind
