"""What a line of an export may hold, by its kind: a file comes from anywhere."""

from __future__ import annotations

import json
from typing import Annotated, Any

from msgspec import Meta, Struct, ValidationError

from adaptkit.types.checks.convert import convert
from adaptkit.types.checks.schema import check_detail, check_quantised, check_values
from adaptkit.types.limits import LARGEST_NUMBER

_Number = Annotated[int, Meta(ge=1, le=LARGEST_NUMBER)]
_Figure = Annotated[float, Meta(gt=-(2**63), lt=2**63)]


class _Base(Struct):
    base: str
    name: str | None
    quantised: str | None
    derived_from: str | None
    levels: list[tuple[str, bool]]
    checked: bool = False


class _BaseName(Struct):
    base_name: str
    of: str
    author: str
    when: str


class _Pair(Struct):
    pair: str
    tm1: str
    author: str
    when: str


class _Adapter(Struct):
    adapter: str
    next_number: Annotated[int, Meta(ge=1, le=LARGEST_NUMBER + 1)]
    created: str
    description: str
    former: list[tuple[str, str]]


class _Artifact(Struct):
    artifact: str
    base: str
    manifest: dict[str, Any]


class _Version(Struct):
    version: str
    number: _Number
    digest: str
    message: str
    author: str
    origin: str
    created: str
    deleted: str | None
    tags: list[str]
    metrics: dict[str, _Figure]


class _Alias(Struct):
    alias: str
    of: str
    number: _Number


class _Move(Struct):
    move: str
    alias: str
    old: _Number | None
    new: _Number | None
    when: str
    author: str


class _Placement(Struct):
    placement: str
    number: _Number
    digest: str
    when: str


class _Event(Struct):
    event: str
    subject: str
    digest: str
    detail: str
    when: str
    author: str
    actor: str = ""


_KINDS: dict[str, type[Struct]] = {
    "artifact": _Artifact,
    "base_name": _BaseName,
    "pair": _Pair,
    "base": _Base,
    "adapter": _Adapter,
    "version": _Version,
    "move": _Move,
    "alias": _Alias,
    "placement": _Placement,
    "event": _Event,
}


def checked(line: dict[str, Any]) -> str:
    """The kind of a line, which is the first of these keys that it has; `ValueError` for what it may not hold."""
    kind = next((kind for kind in _KINDS if kind in line), None)
    if kind is None:
        raise ValueError("it is of no kind that is known")
    try:
        convert(line, _KINDS[kind])
    except ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        at = where.strip("`").lstrip(".")
        raise ValueError(f"'{at}': {what}" if at else what) from error
    check_values(line)
    if kind == "event":
        check_detail(json.loads(line["detail"]))
    elif kind == "base" and line["quantised"]:
        check_quantised(json.loads(line["quantised"]))
    return kind
