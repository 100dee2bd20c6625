"""A sweep written down in a YAML file.

```yaml
name: nightly
base: models/ship                      # a folder
sets:
  skills: {base: models/ship, tag: approved, name: "*-skill"}
steps:
  - evaluate: {of: skills, suites: [suites], baseline: base}
  - gate: {of: skills, require: ["naval.exact >= 0.8"]}
  - merge: {of: skills, name: bridge, strategy: ties, params: {density: 0.5}}
  - distil: {of: bridge, prompts: {naval: naval.jsonl}}
  - evaluate: {of: bridge, suites: [suites], baseline: base}
  - gate: {of: bridge, require: ["polite.forgetting <= 0.05"]}
  - alias: {of: bridge, to: staging}
  - push: {of: bridge, to: team}
  - bake: {of: bridge, out: "models/{name}-{number}"}
```

A set is what its query finds when the sweep starts. A merge makes a set of its own name; after a gate a set is what
passed, after a distil what was distilled. Paths are relative to the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from adaptkit.errors import BadReference, BadSweep, NotFound
from adaptkit.io import yaml_text
from adaptkit.refs import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from adaptkit.io.struct_mistakes import Where

MOST_STEPS = 256


class Query(Struct, frozen=True, forbid_unknown_fields=True):
    """Which adapters: the latest version of each name that fits, or the one that has the alias.

    `name` is a glob, or a list of them.
    """

    base: str = ""
    tag: str = ""
    alias: str = ""
    name: str | tuple[str, ...] = "*"
    metrics: tuple[str, ...] = ()


class Evaluate(Struct, frozen=True, forbid_unknown_fields=True):
    """Score every adapter of a set on suites."""

    of: str
    suites: tuple[str, ...]
    baseline: str = ""
    new: tuple[str, ...] = ()


class Merge(Struct, frozen=True, forbid_unknown_fields=True):
    """Merge a set into one; `weights` by adapter name, 1 where none is given."""

    of: str
    name: str
    strategy: str = "linear"
    params: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    space: str | None = None
    rank: int | None = None
    dtype: str | None = None
    normalize: bool = False
    seed: int = 0


class Distil(Struct, frozen=True, forbid_unknown_fields=True):
    """Distil every adapter of a set on prompts of its parents."""

    of: str
    prompts: dict[str, str]
    steps: int = 50
    rate: float = 1e-3
    seed: int = 0


class Gate(Struct, frozen=True, forbid_unknown_fields=True):
    """Go on only with what meets every condition."""

    of: str
    require: tuple[str, ...]


class Alias(Struct, frozen=True, forbid_unknown_fields=True):
    """Point an alias at every adapter of a set."""

    of: str
    to: str


class Push(Struct, frozen=True, forbid_unknown_fields=True):
    """Publish every adapter of a set."""

    of: str
    to: str


class Bake(Struct, frozen=True, forbid_unknown_fields=True):
    """Write the base with each adapter of a set in it; `{name}` and `{number}` in `out` are the version's."""

    of: str
    out: str
    dtype: str | None = None


Action = Evaluate | Merge | Distil | Gate | Alias | Push | Bake


class Step(Struct, frozen=True, forbid_unknown_fields=True):
    """One line under `steps`: exactly one of these."""

    evaluate: Evaluate | None = None
    merge: Merge | None = None
    distil: Distil | None = None
    gate: Gate | None = None
    alias: Alias | None = None
    push: Push | None = None
    bake: Bake | None = None

    @property
    def actions(self) -> list[Action]:
        found = (getattr(self, name) for name in self.__struct_fields__)
        return [one for one in found if one is not None]


class SweepFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    name: str
    sets: dict[str, Query]
    steps: tuple[Step, ...]
    base: str = ""

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(step.actions[0] for step in self.steps)


@dataclass(frozen=True, slots=True)
class WrittenSweep:
    """A sweep with the file that it was read from."""

    path: Path
    file: SweepFile
    text: yaml_text.Document

    def place(self, *where: str | int) -> str:
        """The file, and the line of these keys in it; a step is `"steps"` and its number, from 0."""
        return f"{self.path}, line {self.text.line(*where)}"


def read(path: Path) -> WrittenSweep:
    """The sweep in a file, checked; `BadSweep` says what is wrong with it, and on which line."""
    try:
        text = yaml_text.read(path)
        found = yaml_text.parse(text, SweepFile)
        _check(found, text)
    except yaml_text.BadYaml as error:
        raise BadSweep(
            f"cannot read {path}{error.at}", why=error.why, fix=f"{error.fix}{FIX}"
        ) from error
    return WrittenSweep(path, found, text)


FIX = "docs/scale-out.md shows every key"


def _check(found: SweepFile, text: yaml_text.Document) -> None:
    for where, why in _mistakes(found):
        raise yaml_text.BadYaml(text.line(*where), why)


def _mistakes(found: SweepFile) -> Iterator[tuple[Where, str]]:
    """Where a mistake is that the types allow, and why it is one."""
    try:
        check_name(found.name)
    except BadReference as error:
        yield ("name",), error.summary
    if "/" in found.name:
        yield ("name",), f"the name '{found.name}' has a '/'"
    if not 0 < len(found.steps) <= MOST_STEPS:
        yield ("steps",), f"it has {len(found.steps)} steps, and may have 1 to {MOST_STEPS}"
    known = set(found.sets)
    for number, step in enumerate(found.steps, 1):
        at = ("steps", number - 1)
        actions = step.actions
        if len(actions) != 1:
            yield at, f"step {number} names {len(actions)} things to do, and must name one"
            continue
        (action,) = actions
        kind = type(action).__name__.lower()
        if action.of not in known:
            yield (*at, kind, "of"), NotFound(f"set in step {number}", action.of, known).summary
        if isinstance(action, Merge):
            known.add(action.name)
        if isinstance(action, Evaluate | Distil | Bake) and not found.base:
            yield at, f"step {number} needs the base's folder: base: DIR"
        if isinstance(action, Bake) and "{name}" not in action.out:
            why = f"step {number} bakes every adapter into '{action.out}': it needs {{name}} in it"
            yield (*at, kind, "out"), why
