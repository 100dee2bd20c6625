"""Ask plugins before something happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import BadReference, NotFound, Refused
from adaptkit.extend.review import Delete, MoveAlias, Publish, Severity
from adaptkit.workspace.units import parse_condition

if TYPE_CHECKING:
    from adaptkit.extend.review import Action
    from adaptkit.types import Condition
    from adaptkit.workspace.context.context import Context


def review(context: Context, action: Action) -> None:
    """Ask every plugin; all objections are shown, and one that refuses stops the action."""
    objections = context.plugins.review(action)
    for plugin, objection in objections:
        if objection.severity is Severity.WARN:
            context.notify(f"{plugin}: {objection.text}")
    refusals = [f"{plugin}: {o.text}" for plugin, o in objections if o.severity is Severity.REFUSE]
    if refusals:
        raise Refused(f"{_called(action)} was refused by a plugin", why="; ".join(refusals))


def _called(action: Action) -> str:
    """An action as a person calls it."""
    if isinstance(action, Publish):
        return f"the push of {action.version.ref}"
    if isinstance(action, Delete):
        return f"the removal of {', '.join(version.ref for version in action.versions)}"
    if isinstance(action, MoveAlias):
        return f"the move of {action.name}@{action.alias}"
    return f"the merge into {action.name}" if action.name else "the merge"


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
    gates, metrics = _gates(context, alias), {}
    if gates and number is not None:
        try:
            metrics = dict(context.registry.version(name, number=number).metrics)
        except NotFound:  # about to be made, so nothing was measured on it
            metrics = {}
    protected = alias in context.config.protected
    review(context, MoveAlias(name, alias, old, number, protected, confirmed, metrics, gates))


def _gates(context: Context, alias: str) -> tuple[Condition, ...]:
    """What config.toml asks of a version before this alias points at it."""
    try:
        return tuple(parse_condition(text) for text in context.config.gates.get(alias, ()))
    except BadReference as error:
        raise BadReference(
            f"the gate of '{alias}' cannot be read",
            why=error.what,
            fix=f'fix [gates] in {context.home.config_file}: {alias} = ["polite.forgetting <= 0.05"]',
        ) from error


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
