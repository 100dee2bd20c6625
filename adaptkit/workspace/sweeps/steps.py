"""What each kind of step does: an operation of `Workspace` for each adapter of a set, unless its result is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.errors import nearest
from adaptkit.workspace.sweeps.file import Alias, Bake, Distil, Evaluate, Gate, Merge, Push
from adaptkit.workspace.sweeps.walk import base_key, baseline_key, content_of, suites_of
from adaptkit.workspace.units import parse_condition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adaptkit.types import Condition, Version
    from adaptkit.workspace.sweeps.file import Action
    from adaptkit.workspace.sweeps.walk import Walk


def _evaluate(walk: Walk, action: Evaluate) -> None:
    suites = suites_of(walk, action.suites)
    content = {
        "suites": sorted(f"{suite.name} {suite.digest}" for suite in suites),
        "base": base_key(walk),
        "baseline": baseline_key(walk, action.baseline),
        "new": sorted(action.new),
    }
    todo: dict[str, tuple[Version, str]] = {}
    for version in walk.known(action.of):
        key = walk.key(adapter=version.digest, **content)
        names = walk.journal.result(key)
        if names is not None and set(names.split()) <= version.metrics.keys():
            walk.add(version.ref, "done")
        elif walk.dry:
            walk.add(version.ref, "to do")
            walk.unscored.add(version.ref)
        else:
            todo[version.ref] = version, key

    def recorded(version: Version, metrics: Mapping[str, float]) -> None:
        if version.ref in todo:  # and not the baseline alone
            walk.note(todo[version.ref][1], version.ref, " ".join(sorted(metrics)))
            walk.add(version.ref, "made")

    if todo:
        walk.workspace.evaluate(
            list(todo),
            [walk.path(one) for one in action.suites],
            base=walk.base,
            baseline=action.baseline or None,
            new=action.new,
            on=walk.on,
            recorded=recorded,
        )
    walk.sets[action.of] = tuple(
        one if isinstance(one, str) else walk.workspace.version(one.ref)
        for one in walk.sets[action.of]
    )
    for one in walk.sets[action.of]:
        if not isinstance(one, str):
            walk.board.score(one, suites)


def _merge(walk: Walk, action: Merge) -> None:
    walk.names[action.name] = frozenset({action.name})
    if any(isinstance(one, str) for one in walk.sets[action.of]):
        walk.add(f"{action.name}@?", "waits")
        walk.sets[action.name] = (f"{action.name}@?",)
        return
    parents = walk.known(action.of)
    if not parents:
        walk.sets[action.name] = ()
        return
    pairs = [(parent, action.weights.get(parent.name, 1.0)) for parent in parents]
    choices: dict[str, Any] = {
        name: getattr(action, name)
        for name in ("strategy", "params", "space", "rank", "dtype", "normalize", "seed")
    }
    key = walk.key(
        parents=[[one.digest, weight] for one, weight in pairs], name=action.name, choices=choices
    )

    def make() -> Version:
        merged = walk.workspace.merge(
            [(one.ref, weight) for one, weight in pairs],
            name=action.name,
            message=f"sweep {walk.file.name}",
            on=walk.on,
            **choices,
        )
        assert merged.version is not None
        return merged.version

    walk.sets[action.name] = (_made(walk, key, action.name, make),)


def _distil(walk: Walk, action: Distil) -> None:
    prompts = {label: walk.path(path) for label, path in action.prompts.items()}
    made: list[Version | str] = [one for one in walk.sets[action.of] if isinstance(one, str)]
    for version in walk.known(action.of):
        key = walk.key(
            adapter=version.digest,
            base=base_key(walk),
            prompts={
                label: [walk.workspace.version(label).digest, content_of(walk, path)]
                for label, path in action.prompts.items()
            },
            how=[action.steps, action.rate, action.seed],
        )

        def make(version: Version = version) -> Version:
            return walk.workspace.distil(
                version.ref,
                walk.base,
                prompts,
                steps=action.steps,
                rate=action.rate,
                seed=action.seed,
                message=f"sweep {walk.file.name}",
            ).version

        made.append(_made(walk, key, version.name, make))
    walk.sets[action.of] = tuple(made)


def _made(walk: Walk, key: str, name: str, make: Callable[[], Version]) -> Version | str:
    """The version that a task made before, or makes now."""
    digest = walk.journal.result(key)
    version = walk.version(name, digest) if digest else None
    if version is not None:
        walk.add(version.ref, "done", version.digest)
        return version
    if walk.dry:
        walk.add(f"{name}@?", "to do")
        return f"{name}@?"
    version = make()
    walk.note(key, version.ref, version.digest)
    walk.add(version.ref, "made", version.digest)
    return version


def _gate(walk: Walk, action: Gate) -> None:
    conditions = [parse_condition(text) for text in action.require]
    passed: list[Version | str] = [one for one in walk.sets[action.of] if isinstance(one, str)]
    for version in walk.known(action.of):
        unmet = list(filter(None, (_unmet(version, one) for one in conditions)))
        if unmet and version.ref in walk.unscored:
            walk.add(version.ref, "waits")
            walk.board.judge(version, walk.step, action, "waits")
            passed.append(f"{version.ref}?")
        elif unmet:
            walk.add(version.ref, "held", "; ".join(unmet))
            walk.board.judge(version, walk.step, action, "held")
        else:
            walk.add(version.ref, "done")
            walk.board.judge(version, walk.step, action, "passed")
            passed.append(version)
    if not passed and walk.sets[action.of]:
        walk.emptied[action.of] = walk.step
    walk.sets[action.of] = tuple(passed)


def _unmet(version: Version, condition: Condition) -> str:
    """Why a version does not meet a condition; empty where it does."""
    figure = version.metrics.get(condition.name)
    if figure is not None:
        wanted = f"{condition.op} {condition.value:.4g}"
        return "" if condition.met(figure) else f"{condition.name} is {figure:.4g}, not {wanted}"
    near = nearest(condition.name, version.metrics, show=1)[:1]
    measured = f": nearest is {near[0]}" if near else ""
    return f"{condition.name} is not measured{measured}"


def _alias(walk: Walk, action: Alias) -> None:
    for version in walk.known(action.of):
        there = action.to in walk.workspace.version(version.ref).aliases
        if not there and not walk.dry:
            walk.workspace.alias(version.name, action.to, version.number)
        walk.add(version.ref, _status(walk, there), f"{version.name}@{action.to}")


def _push(walk: Walk, action: Push) -> None:
    for version in walk.known(action.of):
        url = walk.workspace.places.to_push(action.to, version.name).url
        placements = walk.workspace.registry.placements(version.digest)
        there = any(placement.place == url for placement in placements)
        if not there and not walk.dry:
            walk.workspace.push(version.ref, action.to)
        walk.add(version.ref, _status(walk, there), url)


def _bake(walk: Walk, action: Bake) -> None:
    for version in walk.known(action.of):
        out = walk.folder / action.out.format(name=version.name, number=version.number)
        key = walk.key(
            adapter=version.digest, base=base_key(walk), dtype=action.dtype, out=str(out)
        )
        # a model gets its name when it is whole, so one that was begun and is there is finished
        there = walk.journal.result(key) is not None and out.is_dir()
        if not there and not walk.dry:
            walk.note(key, version.ref, str(out))
            walk.workspace.bake(version.ref, walk.base, out, dtype=action.dtype, on=walk.on)
        walk.add(version.ref, _status(walk, there), str(out))


def _status(walk: Walk, there: bool) -> str:
    return "done" if there else "to do" if walk.dry else "made"


DO: Mapping[type[Action], Callable[[Walk, Any], None]] = {
    Evaluate: _evaluate,
    Merge: _merge,
    Distil: _distil,
    Gate: _gate,
    Alias: _alias,
    Push: _push,
    Bake: _bake,
}
