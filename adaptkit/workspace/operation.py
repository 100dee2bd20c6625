"""An operation of `Workspace` that is imported when it is first looked up, and looks at what it is given.

All of them together take 0.2 s to import, numpy among them; a command needs one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adaptkit.workspace.arguments import checking

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
