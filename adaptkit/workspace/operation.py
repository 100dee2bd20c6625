"""An operation of `Workspace` that is imported when it is first looked up, and looks at what it is given.

All of them together take 0.2 s to import, numpy among them; a command needs one.
"""

from __future__ import annotations

import os
from functools import wraps
from importlib import import_module
from inspect import Parameter, signature
from numbers import Integral, Real
from types import NoneType
from typing import TYPE_CHECKING, Any

from adaptkit.refs import path_text

if TYPE_CHECKING:
    from collections.abc import Callable


class Operation:
    """A function by the names of its module and itself; it takes its own place in the class at the first look."""

    def __init__(self, module: str, function: str) -> None:
        self._module, self._function = module, function
        self._owner: tuple[type, str] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner, name

    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., Any]:
        assert self._owner is not None
        home, name = self._owner
        found: Any = checking(getattr(import_module(self._module), self._function), name)
        if vars(home).get(name) is self:
            setattr(home, name, found)
        bound: Callable[..., Any] = found.__get__(instance, owner)
        return bound


class Operations:
    """The operations of one module, none of them imported."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, function: str) -> Operation:
        return Operation(self._module, function)


def operations(module: str) -> Operations:
    """What stands for a module where its functions become methods."""
    return Operations(module)


_ONE = (str, int, os.PathLike)
_SEVERAL = ("Sequence[str", "Sequence[int", "tuple[str, ...")
_KINDS: dict[str, type] = {
    "str": str,
    "os.PathLike[str]": os.PathLike,
    "int": Integral,
    "float": Real,
    "None": NoneType,
}


def checking(function: Callable[..., Any], called: str) -> Callable[..., Any]:
    """The function, by the name it is called by, with a `TypeError` that names an argument of another kind than its annotation.

    Where it takes several strings, paths or numbers, a single one is taken as a sequence of that one: to Python a
    string is a sequence of strings, so that `tags="best"` would be four tags. A path is taken where its text is.
    Meanwhile libraries say nothing of themselves.
    """
    kinds = function.__annotations__
    several = {name for name, kind in kinds.items() if kind.startswith(_SEVERAL)}
    plain = {
        name: tuple(_KINDS[part] for part in kind.split(" | "))
        for name, kind in kinds.items()
        if name != "return" and set(kind.split(" | ")) <= _KINDS.keys()
    }
    parameters = signature(function).parameters.values()
    placed = [one.name for one in parameters if one.kind is Parameter.POSITIONAL_OR_KEYWORD]

    def checked(name: str, value: object) -> object:
        if name in several and isinstance(value, _ONE):
            return (value,)
        if name not in plain:
            return value
        if isinstance(value, os.PathLike) and os.PathLike not in plain[name]:
            value = path_text(value)
        if isinstance(value, bool) or not isinstance(value, plain[name]):
            given = f"{value!r}, which is of the type {type(value).__name__}"
            raise TypeError(f"{called}() takes {kinds[name]} as {name}, not {given}")
        if isinstance(value, Real) and not isinstance(value, (int, float)):
            return int(value) if isinstance(value, Integral) else float(value)  # numpy's
        return value

    @wraps(function)
    def operation(*arguments: Any, **named: Any) -> Any:
        if len(arguments) > len(placed):
            raise TypeError(
                f"{called}() takes {', '.join(placed[1:]) or 'nothing'} by place: several adapters go into "
                "a list, all else goes by name"
            )
        from adaptkit.io.machine.libraries import quiet_libraries

        with quiet_libraries():
            return function(
                *map(checked, placed, arguments),
                **{name: checked(name, value) for name, value in named.items()},
            )

    return operation
