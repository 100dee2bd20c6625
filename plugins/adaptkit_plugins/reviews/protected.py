"""Protected aliases: `protected = ["prod"]` in config.toml, and moving one needs --yes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.extend.review import MoveAlias, Objection
from adaptkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adaptkit.extend.review import Action

REVIEW = "protected"


@hookimpl
def review(action: Action) -> Iterable[Objection] | None:
    """Object to the move of a protected alias that was not confirmed."""
    if (
        not isinstance(action, MoveAlias)
        or not action.protected
        or action.confirmed
        or action.old == action.new
    ):
        return None
    to = "--drop" if action.new is None else str(action.new)
    return [
        Objection(
            f"{action.name}@{action.alias} is protected (config.toml): adaptkit alias {action.name} "
            f"{action.alias} {to} --yes moves it anyway"
        )
    ]
