"""An operation of `Workspace` that is imported when it is first looked up, and takes one where it takes several.

All of them together take 0.2 s to import, numpy among them; a command needs one.
"""

from __future__ import annotations

import os
from functools import wraps
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

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
        found: Any = taking_one(getattr(import_module(self._module), self._function))
        home, name = self._owner
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


def taking_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which takes a single string, path or number where it takes several as a sequence of that one.

    To Python a string is a sequence of strings, so that `tags="best"` would be four tags.
    """
    several = {name for name, kind in function.__annotations__.items() if kind.startswith(_SEVERAL)}
    if not several:
        return function
    names = tuple(signature(function).parameters)

    def sequence(name: str, value: object) -> object:
        return (value,) if name in several and isinstance(value, _ONE) else value

    @wraps(function)
    def operation(*arguments: Any, **named: Any) -> Any:
        placed = (sequence(name, value) for name, value in zip(names, arguments, strict=False))
        return function(
            *placed,
            *arguments[len(names) :],
            **{name: sequence(name, value) for name, value in named.items()},
        )

    return operation
