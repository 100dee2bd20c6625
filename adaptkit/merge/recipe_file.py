"""A merge written down in a YAML file.

Read with line numbers, checked strictly, resolved like one that was typed.

```yaml
adapters:
  - naval@prod                  # weight 1
  - ref: medic
    weight: 0.8
    modules: {"*.mlp.*": 0.5, "*.self_attn.*": [0, 1]}
  - recipe: inner.yaml          # another file, made first
strategy: ties
space: knots
params: {density: 0.5}
rank: 16                        # or energy: 0.95, keep: fro
seed: 0
dtype: bfloat16
extras: drop
missing: skip
normalize: false
base: models/ship
```

JSON is YAML, so what `adaptkit show REF --recipe` prints is such a file too. Anchors, aliases and
tags are refused: a recipe needs none, and a few lines of them can grow without bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadRecipe, nearest
from adaptkit.io import yaml_text
from adaptkit.refs import PathRef, WeightedRef, parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DEEPEST = 8
_KINDS: Mapping[str, tuple[type, ...]] = {
    "strategy": (str,),
    "space": (str,),
    "params": (dict,),
    "rank": (int,),
    "energy": (int, float),
    "keep": (str,),
    "seed": (int,),
    "dtype": (str,),
    "extras": (str,),
    "missing": (str,),
    "normalize": (bool,),
    "base": (str,),
}
_ADAPTER = frozenset({"ref", "recipe", "weight", "modules"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One adapter of a composition: a reference, or another file to be made first."""

    ref: str
    weight: float = 1.0
    recipe: Path | None = None
    modules: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Composition:
    """A file that was read: the adapters, and every other choice as `Workspace.merge` takes it."""

    path: Path
    adapters: tuple[Entry, ...]
    choices: Mapping[str, Any]

    def sources(self, made: Mapping[Path, Path]) -> list[WeightedRef]:
        """The adapters of the merge; `made` maps nested compositions to where they were written."""
        return [
            WeightedRef(
                parse(entry.ref) if entry.recipe is None else _folder(made[entry.recipe]),
                entry.weight,
                entry.modules,
            )
            for entry in self.adapters
        ]


def _folder(path: Path) -> PathRef:
    return PathRef(path, str(path))


def read(path: Path, above: tuple[Path, ...] = ()) -> Composition:
    """Read a file and check all of it that can be checked alone.

    `BadRecipe` names the file and the line.
    """
    path = path.absolute()
    if path.resolve() in {one.resolve() for one in above}:
        raise BadRecipe(
            f"{path} contains itself",
            why=" → ".join(one.name for one in (*above, path)),
            fix="break the circle",
        )
    if len(above) >= _DEEPEST:
        raise BadRecipe(
            f"{path} is nested too deep", why=f"more than {_DEEPEST} files", fix="compose in steps"
        )
    table = _Reader(path).table()
    adapters = tuple(_entry(path, one) for one in _listed(path, table))
    choices = {key: value.plain() for key, value in table.items() if key in _KINDS}
    for entry in adapters:
        if entry.recipe:
            read(entry.recipe, (*above, path))
    return Composition(path, adapters, choices)


@dataclass(frozen=True, slots=True)
class _Value:
    """A value and its line."""

    value: Any
    line: int

    def plain(self) -> Any:
        if isinstance(self.value, dict):
            return {key: value.plain() for key, value in self.value.items()}
        if isinstance(self.value, list):
            return [value.plain() for value in self.value]
        return self.value


@dataclass(frozen=True, slots=True)
class _Reader:
    path: Path

    def wrong(self, line: int, why: str, fix: str = "") -> BadRecipe:
        return BadRecipe(
            f"{self.path}, line {line}" if line else f"cannot read {self.path}",
            why=why,
            fix=fix or "docs/merging.md shows an example",
        )

    def table(self) -> dict[str, _Value]:
        """The whole file: known keys, each once, each of its kind."""
        import yaml

        try:
            text = yaml_text.read_text(self.path)
            yaml_text.check(text, _DEEPEST)
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except OSError as error:
            raise BadRecipe(
                f"cannot read {self.path}",
                why=error.strerror or str(error),
                fix="check the path for a typo",
            ) from error
        except yaml_text.BadYaml as error:
            raise self.wrong(error.line, error.why) from error
        if not isinstance(node, yaml.MappingNode):
            raise self.wrong(1, "a recipe is a table with the key 'adapters'")
        found: dict[str, _Value] = self._value(node).value
        if "merge_method" in found and "adapters" not in found:
            raise self.wrong(
                found["merge_method"].line,
                "it is a recipe of mergekit",
                f"adaptkit recipe from-mergekit {self.path} > recipe.yaml",
            )
        for key, value in found.items():
            if key != "adapters" and key not in _KINDS:
                known = ", ".join(nearest(key, ["adapters", *_KINDS], show=3))
                raise self.wrong(value.line, f"unknown key '{key}'", f"nearest are {known}")
            if key in _KINDS and (
                not isinstance(value.value, _KINDS[key])
                or (isinstance(value.value, bool) and bool not in _KINDS[key])
            ):
                wanted = yaml_text.CALLED[_KINDS[key][-1].__name__]
                raise self.wrong(value.line, f"'{key}' is {value.plain()!r}, and must be {wanted}")
        return found

    def _value(self, node: Any) -> _Value:
        import yaml

        line = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            table: dict[str, _Value] = {}
            for key_node, value_node in node.value:
                key = str(key_node.value)
                if key in table:
                    raise self.wrong(key_node.start_mark.line + 1, f"the key '{key}' occurs twice")
                table[key] = _Value(self._value(value_node).value, key_node.start_mark.line + 1)
            return _Value(table, line)
        if isinstance(node, yaml.SequenceNode):
            return _Value([self._value(one) for one in node.value], line)
        try:
            return _Value(yaml.SafeLoader("").construct_object(node), line)
        except ValueError as error:  # such as the date 2026-13-45
            raise self.wrong(line, f"a value cannot be read: {error}") from error


def _listed(path: Path, table: Mapping[str, _Value]) -> list[_Value]:
    reader = _Reader(path)
    if "adapters" not in table:
        raise reader.wrong(1, "it has no key 'adapters'")
    listed = table["adapters"]
    if not isinstance(listed.value, list) or not listed.value:
        raise reader.wrong(listed.line, "'adapters' is a list of one adapter or more")
    return listed.value


def _entry(path: Path, one: _Value) -> Entry:
    reader = _Reader(path)
    if isinstance(one.value, str):
        return Entry(one.value)
    if not isinstance(one.value, dict):
        raise reader.wrong(one.line, f"an adapter is a reference or a table, not {one.plain()!r}")
    for key, value in one.value.items():
        if key not in _ADAPTER:
            raise reader.wrong(
                value.line,
                f"unknown key '{key}' of an adapter",
                f"known are {', '.join(sorted(_ADAPTER))}",
            )
    if ("ref" in one.value) == ("recipe" in one.value):
        raise reader.wrong(one.line, "an adapter has either a ref or a recipe")
    weight = _number(reader, one.value["weight"]) if "weight" in one.value else 1.0
    modules: dict[str, tuple[float, ...]] = {}
    if "modules" in one.value:
        globs = one.value["modules"]
        if not isinstance(globs.value, dict):
            raise reader.wrong(globs.line, "'modules' is a table of globs and weights")
        for glob, values in globs.value.items():
            many = values.value if isinstance(values.value, list) else [values]
            modules[glob] = tuple(_number(reader, value) for value in many)
    key = "ref" if "ref" in one.value else "recipe"
    text = one.value[key]
    if not isinstance(text.value, str):
        raise reader.wrong(text.line, f"'{key}' is {text.plain()!r}, and must be a text")
    return Entry(text.value, weight, path.parent / text.value if key == "recipe" else None, modules)


def _number(reader: _Reader, value: _Value) -> float:
    if isinstance(value.value, bool) or not isinstance(value.value, (int, float)):
        raise reader.wrong(value.line, f"{value.plain()!r} is not a number")
    return float(value.value)


def document(recipe: Mapping[str, Any], base: str | None = None) -> dict[str, Any]:
    """A recorded recipe as a file that `compose` runs."""
    modules: dict[str, dict[str, list[float]]] = {}
    for one in recipe.get("modules", ()):
        modules.setdefault(one["digest"], {})[one["glob"]] = one["values"]
    adapters = []
    for source in recipe["sources"]:
        entry: dict[str, Any] = {"ref": source["digest"], "weight": source["weight"]}
        if source["digest"] in modules:
            entry["modules"] = modules[source["digest"]]
        adapters.append(entry)
    kept = {
        key: value
        for key, value in recipe.items()
        if key in _KINDS and value is not None and value != "refuse"
    }
    return {"adapters": adapters, **kept, **({"base": base} if base else {})}
