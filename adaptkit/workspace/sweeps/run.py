"""Plan a sweep and carry it out, step by step.

Notable choices:
- a task is known by its content: the digests that go in, what is done, and the versions of the code; a task whose
  result is known and still there is not done again, so a second run does nothing and a killed one goes on
- every step is an operation of `Workspace`, which leaves one result however often it is done
- planning is the same walk without doing: what a step would make is not known, so what follows from it waits
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from adaptkit.errors import NotFound
from adaptkit.evaluation.suites import read_suites
from adaptkit.extend.executor import versions
from adaptkit.io.files import sha256_file
from adaptkit.types import digest_of
from adaptkit.workspace.sweeps.board import Board
from adaptkit.workspace.sweeps.file import Alias, Bake, Distil, Evaluate, Gate, Merge, Push
from adaptkit.workspace.sweeps.journal import Journal
from adaptkit.workspace.units import parse_condition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from adaptkit.evaluation.suites import Suite
    from adaptkit.types import Version
    from adaptkit.workspace import Workspace
    from adaptkit.workspace.sweeps.file import Action, Query, SweepFile


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that a sweep does to one adapter (or makes of one set)."""

    step: int
    kind: str
    what: str
    status: str
    """done (before), made (now), to do, waits (for what a step before it makes), held (by a gate) or failed."""
    result: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep planned or carried out."""

    name: str
    tasks: tuple[Task, ...]
    versions: tuple[Version, ...] = ()
    """What the last set of each name holds."""
    board: Board = field(default_factory=Board)

    def count(self, status: str) -> int:
        return sum(task.status == status for task in self.tasks)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "tasks": [task.to_json() for task in self.tasks],
            "versions": [version.to_json() for version in self.versions],
            "figures": self.board.figures,
        }


@dataclass(slots=True)
class Walk:
    """One walk through the steps: what each set holds by now, and what was done or would be."""

    workspace: Workspace
    file: SweepFile
    folder: Path
    journal: Journal
    on: str | None
    dry: bool
    sets: dict[str, tuple[Version | str, ...]] = field(default_factory=dict)
    """Versions; and, as texts, those that a step would first have to make."""
    tasks: list[Task] = field(default_factory=list)
    board: Board = field(default_factory=Board)
    step: int = 0

    def add(self, what: str, status: str, result: str = "") -> None:
        action = self.file.actions[self.step - 1]
        self.tasks.append(Task(self.step, type(action).__name__.lower(), what, status, result))

    def key(self, **content: Any) -> str:
        """The key of a task of this step: what goes in, what is done, with which versions."""
        action = self.file.actions[self.step - 1]
        return digest_of(
            {"kind": type(action).__name__, "versions": [list(one) for one in versions()]} | content
        )

    def note(self, key: str, what: str, result: str) -> None:
        self.journal.note(key, what, result, self.workspace.now())

    def path(self, text: str) -> str:
        return str(self.folder / text)

    @property
    def base(self) -> str:
        return self.path(self.file.base)

    def known(self, of: str) -> list[Version]:
        """The versions of a set that exist; those that are still to be made become tasks that wait."""
        found: list[Version] = []
        for one in self.sets[of]:
            if isinstance(one, str):
                self.add(one, "waits")
            else:
                found.append(one)
        return found

    def version(self, digest: str) -> Version | None:
        try:
            return self.workspace.version(digest)
        except NotFound:
            return None


def carry_out(
    workspace: Workspace, file: SweepFile, folder: Path, *, on: str | None = None, dry: bool = False
) -> Swept:
    """Carry a sweep out, or with `dry` only plan it; `folder` is that of the file."""
    journal = Journal(workspace.home.path / "sweeps" / f"{file.name}.jsonl")
    walk = Walk(workspace, file, folder, journal, on, dry)
    walk.sets = {name: found(workspace, query) for name, query in file.sets.items()}
    if dry:
        return _walked(walk)
    with journal.alone():
        return _walked(walk)


def found(workspace: Workspace, query: Query) -> tuple[Version, ...]:
    """What a query finds now, by name."""
    listed = workspace.list(
        base=query.base or None,
        tag=query.tag or None,
        metrics=query.metrics,
        every=bool(query.alias),
    )
    globs = (query.name,) if isinstance(query.name, str) else query.name
    fitting = [
        version
        for version in listed
        if any(fnmatchcase(version.name, glob) for glob in globs)
        and (not query.alias or query.alias in version.aliases)
    ]
    return tuple(sorted(fitting, key=lambda version: version.name))


def _walked(walk: Walk) -> Swept:
    for number, action in enumerate(walk.file.actions, 1):
        walk.step = number
        DO[type(action)](walk, action)
    last = [one for members in walk.sets.values() for one in members if not isinstance(one, str)]
    fresh = {one.ref: walk.workspace.version(one.ref) for one in last}
    return Swept(walk.file.name, tuple(walk.tasks), tuple(fresh.values()), walk.board)


# ---------------------------------------------------------------- the steps


def _evaluate(walk: Walk, action: Evaluate) -> None:
    suites = _suites(walk, action.suites)
    content = {
        "suites": sorted(f"{suite.name} {suite.digest}" for suite in suites),
        "base": _base_key(walk),
        "baseline": _baseline(walk, action.baseline),
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
    parents = walk.known(action.of)
    if len(parents) < len(walk.sets[action.of]):
        walk.sets[action.name] = (f"{action.name}@?",)
        return
    if not parents:
        walk.add(action.name, "held", f"'{action.of}' holds no adapter")
        walk.sets[action.name] = ()
        return
    for name in action.weights:
        if name not in {parent.name for parent in parents}:
            raise NotFound(f"adapter in '{action.of}'", name, [one.name for one in parents])
    pairs = [(parent, action.weights.get(parent.name, 1.0)) for parent in parents]
    choices: dict[str, Any] = {
        "strategy": action.strategy,
        "params": action.params,
        "space": action.space,
        "rank": action.rank,
        "dtype": action.dtype,
        "normalize": action.normalize,
        "seed": action.seed,
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
            base=_base_key(walk),
            prompts={
                label: [walk.workspace.version(label).digest, _content(walk, path)]
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
    version = walk.version(digest) if digest else None
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
        unmet = [
            f"{one.name} is {version.metrics.get(one.name, 'not measured')}"
            for one in conditions
            if one.name not in version.metrics or not one.met(version.metrics[one.name])
        ]
        if unmet and walk.dry and any(one.name not in version.metrics for one in conditions):
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
    walk.sets[action.of] = tuple(passed)


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
            adapter=version.digest, base=_base_key(walk), dtype=action.dtype, out=str(out)
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


# ---------------------------------------------------------------- what goes into a key


def _base_key(walk: Walk) -> list[str]:
    identity = walk.workspace.base(walk.base).identity
    return sorted(level.value for level in identity.levels)


def _baseline(walk: Walk, ref: str) -> str:
    return ref if ref in {"", "base"} else walk.workspace.version(ref).digest


def _suites(walk: Walk, paths: Iterable[str]) -> tuple[Suite, ...]:
    """What is asked, and how it is scored, wherever the rows are stored."""
    files = [walk.folder / path for path in paths]
    for file in files:
        _must_exist(walk, file)
    return read_suites(files)


def _content(walk: Walk, path: str) -> str:
    _must_exist(walk, walk.folder / path)
    return sha256_file(walk.folder / path)


def _must_exist(walk: Walk, path: Path) -> None:
    if not path.exists():
        raise NotFound("file", str(path), (), fix=f"it is named in the sweep {walk.file.name}")
