"""Ask plugins before something happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import NotFound, Refused
from adaptkit.extend.review import MoveAlias, Severity

if TYPE_CHECKING:
    from adaptkit.extend.review import Action
    from adaptkit.workspace.context.context import Context


def review(context: Context, action: Action) -> None:
    """Ask every plugin; all objections are shown, and one that refuses stops the action."""
    objections = context.plugins.review(action)
    for plugin, objection in objections:
        if objection.severity is Severity.WARN:
            context.notify(f"{plugin}: {objection.text}")
    refusals = [f"{plugin}: {o.text}" for plugin, o in objections if o.severity is Severity.REFUSE]
    if refusals:
        raise Refused(f"{type(action).__name__} was refused by a plugin", why="; ".join(refusals))


def review_move(
    context: Context, name: str, alias: str, number: int | None, *, confirmed: bool = False
) -> None:
    """Ask whether an alias may move.

    `number` is that of the version about to be made where it is new.
    """
    refs.check_alias(alias)
    try:
        old = context.registry.aliases(name).get(alias)
    except NotFound:
        old = None
    review(
        context,
        MoveAlias(name, alias, old, number, alias in context.config.protected, confirmed),
    )


def check_reviews(context: Context) -> None:
    """An unknown review name in config.toml is an error.

    A typo would silently disable the check.
    """
    known = context.plugins.review_names()
    for name in (*context.config.reviews.enable, *context.config.reviews.disable):
        if name not in known:
            raise NotFound(
                "review in [review] of config.toml",
                name,
                known,
                fix=f"fix {context.home.config_file}",
            )
