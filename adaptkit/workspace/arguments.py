"""What an operation is given, compared with its signature before it begins.

Notable choices:
- a single string, path or number is taken where several are: to Python a string is a sequence of strings, so that
  `tags="best"` would be four tags
- a version, or the result of an operation that made one, is taken where a reference is: `ws.push(ws.merge(…), "team")`
- everything else of another kind is a `TypeError` that names the argument; a keyword that there is not names the nearest
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import wraps
from inspect import CO_VARKEYWORDS, Parameter, signature, unwrap
from numbers import Integral, Real
from types import NoneType
from typing import TYPE_CHECKING, Any

from adaptkit.errors import nearest
from adaptkit.refs import path_text, reference_of

if TYPE_CHECKING:
    from collections.abc import Callable

_KINDS: dict[str, type] = {
    "str": str,
    "os.PathLike[str]": os.PathLike,
    "int": Integral,
    "float": Real,
    "bool": bool,
    "None": NoneType,
}
_NO_WORKSPACE = (str, os.PathLike, Sequence, Mapping, NoneType)
_OBJECTS = frozenset({"BaseIdentity", "Placement", "PushOptions", "Quantisation", "ServeOptions"})
"""Annotations that name a class of ours: an object of that class, whoever imported it."""
_REFERENCES = frozenset({"ref", "adapters", "asked", "baseline", "source"})
"""Parameters that name adapters."""
LEAST = {
    "batch": 1,
    "grace": 0,
    "jobs": 1,
    "limit": 1,
    "new_tokens": 1,
    "size": 1,
    "temperature": 0,
    "trash": 0,
    "trials": 1,
    "workers": 1,
}
"""The least of numbers that mean the same in every operation."""
_OWN_CHECKS = frozenset({"distil", "search", "weigh"})
"""Operations that say themselves what their numbers may be."""


def checking(function: Callable[..., Any], called: str) -> Callable[..., Any]:
    """The function, by the name it is called by, with a `TypeError` or `ValueError` that names an argument it cannot take."""
    parameters = dict(signature(function).parameters)
    kinds = {
        name: _split(str(one.annotation), " | ")
        for name, one in parameters.items()
        if one.annotation is not Parameter.empty
    }
    placed = [n for n, one in parameters.items() if one.kind is Parameter.POSITIONAL_OR_KEYWORD]
    required = [name for name in placed if parameters[name].default is Parameter.empty]
    least_of = {} if called in _OWN_CHECKS else LEAST
    is_open = bool(
        unwrap(function).__code__.co_flags & CO_VARKEYWORDS
    )  # names itself what it does not know

    def refuse(name: str, value: object) -> TypeError:
        given = f"{value!r}, which is of the type {type(value).__name__}"
        return TypeError(f"{called}() takes {' | '.join(kinds[name])} as {name}, not {given}")

    def checked(name: str, value: object) -> object:
        if name not in kinds:
            return value
        if name in _REFERENCES:
            value = _references(value)
        taken, fits = _taken(kinds[name], value)
        if not fits:
            raise refuse(name, value)
        least = least_of.get(name) if name in function.__annotations__ else None
        if least is not None and isinstance(taken, (int, float)) and not taken >= least:
            raise ValueError(f"{called}() takes {name} from {least} on, not {taken}")
        return taken

    @wraps(function)
    def operation(*arguments: Any, **named: Any) -> Any:
        if placed[:1] == ["context"] and isinstance(
            arguments[0] if arguments else None, _NO_WORKSPACE
        ):
            raise TypeError(
                f"{called}() is an operation of a workspace that is open: Workspace.open().{called}(…)"
            )
        if len(arguments) > len(placed):
            raise TypeError(
                f"{called}() takes {', '.join(placed[1:]) or 'nothing'} by place: several adapters go into "
                "a list, all else goes by name"
            )
        for name in named if not is_open else ():
            if name not in parameters:
                near = ", ".join(nearest(name, list(parameters)[1:], show=3)[:3])
                says = f": nearest are {near}" if near else ", nor any other argument"
                raise TypeError(f"{called}() takes no '{name}'{says}")
        if lacking := [name for name in required[len(arguments) :] if name not in named]:
            takes = f"{called}({', '.join(required[1:])}, …)"
            raise TypeError(f"{called}() is not given {', '.join(lacking)}: {takes}")
        from adaptkit.io.machine.libraries import quiet_libraries

        with quiet_libraries():
            return function(
                *map(checked, placed, arguments),
                **{name: checked(name, value) for name, value in named.items()},
            )

    return operation


def is_known(annotation: str) -> bool:
    """Whether a value is compared with this annotation; those that are not are named in a test."""
    return all(
        part in _KINDS or part in _OBJECTS or _inner(part) is not None
        for part in _split(annotation, " | ")
    )


def _taken(kinds: Sequence[str], value: object) -> tuple[object, bool]:
    """The value as the operation takes it, and whether it is of one of the kinds."""
    if any(not is_known(kind) for kind in kinds):
        return value, True
    if type(value).__name__ in {"bool", "bool_"}:  # numpy's have either name
        return bool(value), "bool" in kinds
    if isinstance(value, os.PathLike) and "str" in kinds and "os.PathLike[str]" not in kinds:
        value = path_text(value)
    for kind in kinds:
        if kind in _KINDS and isinstance(value, _KINDS[kind]):
            if isinstance(value, Real) and not isinstance(value, (int, float)):
                return (
                    int(value) if isinstance(value, Integral) else float(value)
                ), True  # numpy's
            return value, True
        if kind in _OBJECTS and kind in {one.__name__ for one in type(value).__mro__}:
            return value, True
        if (inner := _inner(kind)) is not None:
            taken, fits = _collected(kind, inner, value)
            if fits:
                return taken, True
    return value, False


def _collected(kind: str, inner: Sequence[str], value: object) -> tuple[object, bool]:
    """A value where several, a pair or a table are taken."""
    if kind.startswith("Mapping["):
        return value, isinstance(value, Mapping)
    several = inner[-1] == "..." or kind.startswith("Sequence[")
    if several and isinstance(value, (str, int, os.PathLike)) and not isinstance(value, bool):
        value = (value,)
    if not isinstance(value, Iterable) or isinstance(value, (str, Mapping)):
        return value, False
    found = list(value)
    kinds = [inner[0]] * len(found) if several else inner
    if len(kinds) != len(found):
        return value, False
    taken = [_taken(_split(one, " | "), part) for one, part in zip(kinds, found, strict=True)]
    return tuple(one for one, _ in taken), all(fits for _, fits in taken)


def _inner(kind: str) -> list[str] | None:
    """What `Sequence[…]`, `tuple[…]` and `Mapping[…]` hold; None for anything else."""
    found = re.fullmatch(r"(?:Sequence|tuple|Mapping)\[(.*)\]", kind)
    return None if found is None else _split(found[1], ", ")


def _split(text: str, by: str) -> list[str]:
    """The parts of an annotation that are not within its brackets."""
    parts, depth = [""], 0
    for word in re.split(rf"({re.escape(by)}|[\[\]])", text):
        depth += (word == "[") - (word == "]")
        if word == by and not depth:
            parts.append("")
        else:
            parts[-1] += word
    return parts


def _references(value: object) -> object:
    """Versions as the references that mean them, alone or in a list."""
    if isinstance(value, (list, tuple)):
        return [_reference(one) for one in value]
    return _reference(value)


def _reference(value: object) -> object:
    return value if isinstance(value, str) else reference_of(value) or value
