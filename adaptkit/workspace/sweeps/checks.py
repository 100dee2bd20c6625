"""What the steps of a sweep name, looked at before the first of them begins: a night's work may come before the last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, BadReference, NotFound
from adaptkit.refs import check_alias, check_name, is_path
from adaptkit.workspace.sweeps.file import Alias, Bake, Distil, Evaluate, Gate, Merge, Push
from adaptkit.workspace.sweeps.walk import baseline_key, content_of, suites_of
from adaptkit.workspace.units import parse_condition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adaptkit.workspace.sweeps.file import Action
    from adaptkit.workspace.sweeps.walk import Walk


def check_steps(walk: Walk) -> None:
    """Refuse a sweep of which a step could not be carried out; the error names its line."""
    names = dict(walk.names)
    for number, action in enumerate(walk.file.actions):
        try:
            if isinstance(action, Merge):
                _weights(action, names[action.of])
                names[action.name] = frozenset({action.name})
            if isinstance(action, Push):
                _places(walk, action, names[action.of])
            _CHECK[type(action)](walk, action)
        except AdaptkitError as error:
            raise error.at(walk.written.place("steps", number)) from error


def _weights(action: Merge, members: frozenset[str]) -> None:
    for name in action.weights if members else ():
        if name not in members:
            raise NotFound(f"adapter in '{action.of}'", name, members)


def _places(walk: Walk, action: Push, members: frozenset[str]) -> None:
    for name in sorted(members):
        walk.workspace.places.to_push(action.to, name)
    if len(members) > 1 and ":" in action.to:
        raise BadReference(
            f"'{action.to}' is the place of one adapter",
            why=f"'{action.of}' holds {len(members)}: {', '.join(sorted(members)[:4])}{' …' if len(members) > 4 else ''}",
            fix="push them to a remote, which holds each under its name: adaptkit remote add NAME URL",
        )


def _evaluate(walk: Walk, action: Evaluate) -> None:
    names = [suite.name for suite in suites_of(walk, action.suites)]
    for name in action.new:
        if name not in names:
            raise NotFound("suite", name, names)
    baseline_key(walk, action.baseline)
    _ = walk.workspace.base(walk.base)


def _merge(walk: Walk, action: Merge) -> None:
    from adaptkit.merge.recipe import Choices, check_choices, check_params

    check_name(action.name)
    strategy = walk.workspace.plugins.strategy(action.strategy)
    check_params([strategy], action.params, walk.workspace.plugins.strategies)
    choices = Choices(
        space=action.space, params=action.params, rank=action.rank, dtype=action.dtype
    )
    check_choices(strategy, choices)


def _distil(walk: Walk, action: Distil) -> None:
    for label, path in action.prompts.items():
        content_of(walk, path)
        check_name(label.partition("@")[0])


def _gate(_walk: Walk, action: Gate) -> None:
    for text in action.require:
        parse_condition(text)


def _alias(_walk: Walk, action: Alias) -> None:
    check_alias(action.to)


def _push(walk: Walk, action: Push) -> None:
    if "://" not in action.to and not is_path(action.to):
        walk.workspace.places.url_of(action.to.partition(":")[0])


def _bake(walk: Walk, action: Bake) -> None:
    from adaptkit.io.safetensors.reader import STORED_DTYPES

    if action.dtype is not None and action.dtype not in STORED_DTYPES:
        raise NotFound("dtype", action.dtype, STORED_DTYPES)
    _ = walk.workspace.base(walk.base)


_CHECK: Mapping[type[Action], Callable[[Walk, Any], None]] = {
    Evaluate: _evaluate,
    Merge: _merge,
    Distil: _distil,
    Gate: _gate,
    Alias: _alias,
    Push: _push,
    Bake: _bake,
}
