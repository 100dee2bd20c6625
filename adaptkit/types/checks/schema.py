"""What an `adaptkit.json` may hold: types, ranges and lengths, in one place.

Whoever may write to a place writes these files, so every one of them is checked before a field of it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct, ValidationError, field

from adaptkit.types.checks.convert import convert
from adaptkit.types.facts import Facts
from adaptkit.types.limits import LARGEST_NUMBER, LONGEST_MESSAGE, LONGEST_NAME, is_unicode

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEEPEST = 64  # lists and objects in each other
_LONGEST = 100_000  # characters of any text, such as a recipe's
_LARGEST = 2**63

Name = Annotated[str, Meta(max_length=LONGEST_NAME)]
Text = Annotated[str, Meta(max_length=400)]
_Place = Annotated[str, Meta(max_length=4_096)]
Digest = Annotated[str, Meta(max_length=71, pattern=r"^sha256:[0-9a-f]+\Z")]


class _File(Struct, forbid_unknown_fields=True):
    path: Text
    size: Annotated[int, Meta(ge=0)]
    sha256: Annotated[str, Meta(max_length=64)]


class _Parent(Struct, forbid_unknown_fields=True):
    digest: Digest
    weight: float = 1.0
    role: Annotated[str, Meta(max_length=32)] = "merged"
    label: Text = ""


class _Level(Struct):
    value: Annotated[str, Meta(max_length=80)]
    measured: bool


class _Quantised(Struct, forbid_unknown_fields=True):
    method: Name
    bits: Annotated[int, Meta(ge=0, le=1024)]
    dtype: Name = ""


class _Base(Struct):
    name: Text | None = None
    levels: dict[Annotated[str, Meta(max_length=8)], _Level] | None = None
    quantised: _Quantised | None = None
    derived_from: Text | None = None


class _Manifest(Struct):
    schema: int
    digest: Digest
    files: list[_File]
    method: Annotated[str, Meta(max_length=64)]
    rank: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    base: _Base | None = None
    extras: list[_File] = field(default_factory=list)
    parents: list[_Parent] = field(default_factory=list)
    recipe: dict[str, Any] | None = None
    facts: dict[str, Any] | None = None
    created: Annotated[str, Meta(max_length=64)] = ""


class _Placed(Struct):
    number: Annotated[int, Meta(ge=1, le=LARGEST_NUMBER)]
    name: Name = ""
    message: Annotated[str, Meta(max_length=LONGEST_MESSAGE)] = ""
    author: Name = ""
    latest: bool = True
    facts: Facts | None = None


class _Locked(Struct, forbid_unknown_fields=True):
    """An entry of `adaptkit.lock`, without its checksum."""

    asked: _Place
    adapter: Name
    digest: Digest
    place: _Place
    number: Annotated[int, Meta(ge=0, le=LARGEST_NUMBER)]
    method: Annotated[str, Meta(max_length=64)]
    base: dict[Annotated[str, Meta(max_length=8)], Text]


class _Detail(Struct):
    """What adaptkit reads of what an event records; other keys are kept as they are."""

    was: dict[str, str] = field(default_factory=dict)


def check_manifest(data: Any) -> None:
    """Refuse a manifest with a field of a wrong type or size; `ValueError` names the field."""
    _check(data, _Manifest)


def check_placed(data: Any) -> None:
    """Refuse what a place adds to a manifest (name, number, message, author, latest), and facts of another shape."""
    _check(data, _Placed)
    if len(data.get("message", "").encode(errors="replace")) > LONGEST_MESSAGE:
        raise ValueError(f"its message is longer than {LONGEST_MESSAGE:,} bytes")


def sound_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that are of the types which adaptkit reads: one that is not must not make its artifact unreadable."""
    return {key: value for key, value in facts.items() if _is_sound({key: value})}


def _is_sound(facts: dict[str, Any]) -> bool:
    try:
        convert(facts, Facts)
    except ValidationError:
        return False
    return True


def check_locked(data: Any) -> None:
    """Refuse an entry of a lock of a wrong type or size."""
    _check(data, _Locked)


def check_quantised(data: Any) -> None:
    """Refuse what says how a base was quantised, alone, by the rules of a manifest."""
    _check(data, _Quantised)


def check_detail(data: Any) -> None:
    """Refuse what an event records, of a wrong type or size."""
    _check(data, _Detail)


def _check(data: Any, kind: type[Struct]) -> None:
    if not isinstance(data, dict):
        raise TypeError("it is not an object")
    try:
        convert(data, kind)
    except ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        at = where.strip("`").lstrip(".")
        raise ValueError(f"in '{at}': {what}" if at else what) from error
    check_values(data)


def check_values(data: Any) -> None:
    """Refuse NaN, infinity, numbers beyond 64 bits, text that is no Unicode, and what is too long or too deep."""
    waiting = [(data, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"it is nested deeper than {_DEEPEST}")
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple)):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            if len(value) > _LONGEST:
                raise ValueError(f"a text in it has {len(value):,} characters")
            if not is_unicode(value):
                raise ValueError("a text in it is no Unicode: it has half a surrogate pair")
            if "\0" in value:
                raise ValueError("a text in it has a NUL")
        elif isinstance(value, (int, float)) and not -_LARGEST <= value < _LARGEST:  # or NaN
            shown = f"{value:.3g}" if isinstance(value, float) else str(value)[:24]
            raise ValueError(f"the number {shown} in it is out of range")
