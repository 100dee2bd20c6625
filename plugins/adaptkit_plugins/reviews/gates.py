"""What a version must have shown before an alias points at it: `[gates]` in config.toml.

    [gates]
    prod = ["polite.forgetting <= 0.05", "naval.exact >= 0.9"]

`adaptkit eval` measures such figures and keeps them on the version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.extend.review import MoveAlias, Objection
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adaptkit.extend.review import Action

REVIEW = "gates"
"""Its name in `[review]` of config.toml."""


@hookimpl
def review(action: Action) -> Iterable[Objection] | None:
    """Object to a promotion that a gate of the alias does not let through."""
    if not isinstance(action, MoveAlias) or action.new is None or action.old == action.new:
        return None
    version = f"{action.name}@{action.new}"
    found = []
    for gate in action.gates:
        asked = f"{gate.name} {gate.op} {gate.value:g}"
        value = action.metrics.get(gate.name)
        if value is None:
            found.append(
                Objection(
                    f"the gate of {action.alias} asks for {asked}, which was not measured on {version}: "
                    f"adaptkit eval {version} --suite FILE --base DIR"
                )
            )
        elif not gate.met(value):
            found.append(
                Objection(f"the gate of {action.alias} asks for {asked}; {version} has {value:g}")
            )
    return found
