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

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadRecipe, nearest
from adaptkit.io import yaml_text
from adaptkit.io.yaml_text import CALLED, BadYaml, Document
from adaptkit.refs import PathRef, WeightedRef, parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.io.struct_mistakes import Where

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
    if os.path.realpath(path) in {os.path.realpath(one) for one in above}:
        raise BadRecipe(
            f"{path} contains itself",
            why=" → ".join(one.name for one in (*above, path)),
            fix="break the circle",
        )
    if len(above) >= _DEEPEST:
        raise BadRecipe(
            f"{path} is nested too deep", why=f"more than {_DEEPEST} files", fix="compose in steps"
        )
    text = _read(path)
    table = text.value
    adapters = tuple(_entry(path, text, number) for number in range(len(table["adapters"])))
    choices = {key: value for key, value in table.items() if key in _KINDS}
    for entry in adapters:
        if entry.recipe:
            read(entry.recipe, (*above, path))
    return Composition(path, adapters, choices)


def _wrong(path: Path, line: int, why: str, fix: str = "") -> BadRecipe:
    return BadRecipe(
        f"{path}, line {line}" if line else f"cannot read {path}",
        why=why,
        fix=fix or "docs/merging.md shows an example",
    )


def _read(path: Path) -> Document:
    """The whole file: known keys, each once, each of its kind, and a list of adapters."""
    try:
        text = yaml_text.document(yaml_text.read_text(path), _DEEPEST)
    except OSError as error:
        raise BadRecipe(
            f"cannot read {path}",
            why=error.strerror or str(error),
            fix="check the path for a typo",
        ) from error
    except BadYaml as error:
        raise _wrong(path, error.line, error.why) from error
    table = text.value
    if not isinstance(table, dict):
        raise _wrong(path, 1, "a recipe is a table with the key 'adapters'")
    if "merge_method" in table and "adapters" not in table:
        raise _wrong(
            path,
            text.line("merge_method"),
            "it is a recipe of mergekit",
            f"adaptkit recipe from-mergekit {path} > recipe.yaml",
        )
    for key, value in table.items():
        if key != "adapters" and key not in _KINDS:
            known = ", ".join(nearest(str(key), ["adapters", *_KINDS], show=3))
            raise _wrong(path, text.line(key), f"unknown key '{key}'", f"nearest are {known}")
        if key in _KINDS and (
            not isinstance(value, _KINDS[key])
            or (isinstance(value, bool) and bool not in _KINDS[key])
        ):
            wanted = CALLED[_KINDS[key][-1].__name__]
            raise _wrong(path, text.line(key), f"'{key}' is {value!r}, and must be {wanted}")
    if "adapters" not in table:
        raise _wrong(path, 1, "it has no key 'adapters'")
    if not isinstance(table["adapters"], list) or not table["adapters"]:
        raise _wrong(path, text.line("adapters"), "'adapters' is a list of one adapter or more")
    return text


def _entry(path: Path, text: Document, number: int) -> Entry:
    at = ("adapters", number)
    one = text.value["adapters"][number]
    if isinstance(one, str):
        return Entry(one)
    if not isinstance(one, dict):
        raise _wrong(path, text.line(*at), f"an adapter is a reference or a table, not {one!r}")
    for key in one:
        if key not in _ADAPTER:
            raise _wrong(
                path,
                text.line(*at, key),
                f"unknown key '{key}' of an adapter",
                f"known are {', '.join(sorted(_ADAPTER))}",
            )
    if ("ref" in one) == ("recipe" in one):
        raise _wrong(path, text.line(*at), "an adapter has either a ref or a recipe")
    weight = _number(path, text, one.get("weight", 1.0), (*at, "weight"))
    globs = one.get("modules", {})
    if not isinstance(globs, dict):
        raise _wrong(path, text.line(*at, "modules"), "'modules' is a table of globs and weights")
    modules = {
        str(glob): tuple(
            _number(path, text, value, (*at, "modules", glob, place))
            for place, value in enumerate(values if isinstance(values, list) else [values])
        )
        for glob, values in globs.items()
    }
    key = "ref" if "ref" in one else "recipe"
    if not isinstance(one[key], str):
        raise _wrong(path, text.line(*at, key), f"'{key}' is {one[key]!r}, and must be a text")
    return Entry(one[key], weight, path.parent / one[key] if key == "recipe" else None, modules)


def _number(path: Path, text: Document, value: Any, where: Where) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(path, text.line(*where), f"{value!r} is not a number")
    return float(value)


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
