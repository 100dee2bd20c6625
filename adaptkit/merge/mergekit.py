"""mergekit's YAML, read as a recipe of ours.

https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md. It merges models, we merge
adapters: `model: base+adapter` names the adapter behind the plus, and the base drops out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BadRecipe, NotFound
from adaptkit.io import yaml_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from adaptkit.extend import MergeStrategy


@dataclass(frozen=True, slots=True)
class Translation:
    """A recipe, and what of the file has no counterpart."""

    recipe: Mapping[str, Any]
    remarks: tuple[str, ...]
    source: str


def read(path: Path, strategies: Sequence[MergeStrategy[Any]]) -> Translation:
    """Read a mergekit file; `BadRecipe` says what in it has no meaning for adapters."""
    text = _text(path)
    table = _mapping(text.value)
    method, strategy = _strategy(path, text, table, strategies)
    remarks: list[str] = []
    adapters, given = _adapters(path, text, table, remarks)
    share = given.pop("t", None) if strategy.arity == (2, 2) and len(adapters) == 2 else None
    params = strategy.from_mergekit(method, given) or {}
    if share is not None and "t" not in strategy.mergekit[method]:
        for entry, weight in zip(adapters, (1 - share, share), strict=True):
            entry["weight"] = weight
    elif share is not None:
        params |= strategy.from_mergekit(method, {"t": share}) or {}
    left_out = given.keys() - {"normalize", "int8_mask", "density", *strategy.mergekit[method]}
    remarks += [
        f"the parameter '{key}' has no counterpart and is left out" for key in sorted(left_out)
    ]
    recipe: dict[str, Any] = {"adapters": adapters, "strategy": strategy.name}
    if params:
        recipe["params"] = params
    # https://github.com/arcee-ai/mergekit: linear is normalised unless it says otherwise
    if given.get("normalize", method == "linear"):
        recipe["normalize"] = True
    if (dtype := table.get("dtype")) in {"float32", "bfloat16", "float16"}:
        recipe["dtype"] = dtype
    return Translation(recipe, tuple(remarks), path.name)


def _strategy(
    path: Path,
    text: yaml_text.Document,
    table: Mapping[str, Any],
    strategies: Sequence[MergeStrategy[Any]],
) -> tuple[str, MergeStrategy[Any]]:
    """The file's merge method, and the strategy that makes it here."""
    if "merge_method" not in table:
        raise _wrong(path, "it has no key 'merge_method'", "adaptkit compose runs recipes of ours")
    method = str(table["merge_method"])
    made_by = {name: one for one in strategies for name in one.mergekit}
    if method not in made_by:
        error = NotFound("merge_method of mergekit that a strategy here makes", method, made_by)
        raise error.at(f"{path}, line {text.line('merge_method')}")
    if "slices" in table:
        raise _wrong(
            path,
            "it stacks slices of layers",
            "adaptkit merges adapters of one base: list models",
            text.line("slices"),
        )
    return method, made_by[method]


def _adapters(
    path: Path, text: yaml_text.Document, table: Mapping[str, Any], remarks: list[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The adapters with their weights, and the other parameters: ours hold for all adapters."""
    models = table.get("models")
    if not isinstance(models, list) or not models:
        raise _wrong(path, "'models' is a list of one model or more", line=text.line("models"))
    common, given = _mapping(table.get("parameters")), dict[str, Any]()
    adapters = []
    for number, model in enumerate(models):
        entry = _mapping(model)
        own = _mapping(entry.get("parameters"))
        name = str(entry.get("model", ""))
        if name == str(table.get("base_model", "")):
            continue  # the base itself, whose update is nothing
        if not name or name.endswith("+"):
            raise _wrong(path, "a model has no name", line=text.line("models", number))
        adapters.append({"ref": _adapter(path, name, remarks)} | _weight(common | own))
        for key in sorted(own.keys() - {"weight"}):
            value = _one(own[key])
            if given.setdefault(key, value) != value:
                remarks.append(f"{key} of {name} is {value}; {given[key]} is taken for all")
    if not adapters:
        raise _wrong(path, "it names no model besides the base", line=text.line("models"))
    for key in sorted(common.keys() - {"weight"}):
        given.setdefault(key, _one(common[key]))
    return adapters, given


def as_yaml(found: Translation) -> str:
    """The recipe as a file, saying where it comes from."""
    import yaml

    body: str = yaml.safe_dump(dict(found.recipe), sort_keys=False, allow_unicode=True)
    return f"# from mergekit's {found.source}\n{body}"


def _adapter(path: Path, name: str, remarks: list[str]) -> str:
    base, plus, adapter = name.partition("+")
    if not plus:
        remarks.append(
            f"'{name}' is a whole model: put its adapter there (adaptkit extract makes one)"
        )
        adapter = base
    if adapter.startswith(("./", "../", "/", "~")) or "://" in adapter:
        return adapter
    if (path.parent / adapter).is_dir():
        return f"./{adapter}"
    return f"hf://{adapter}" if adapter.count("/") == 1 else adapter


def _weight(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`weight`, and its values by module where mergekit has filters or a gradient."""
    if "weight" not in parameters:
        return {}
    value = parameters["weight"]
    if isinstance(value, (int, float)):
        return {"weight": value}
    if not isinstance(value, list):
        return {}
    if all(isinstance(one, (int, float)) for one in value):
        return {"weight": value[0], "modules": {"*": value}}
    rows = [_mapping(one) for one in value]
    modules = {f"*{row['filter']}*": row["value"] for row in reversed(rows) if "filter" in row}
    rest = next((row["value"] for row in rows if "filter" not in row), 1.0)
    return {"weight": _one(rest), **({"modules": modules} if modules else {})}


def _one(value: Any) -> Any:
    """A parameter's value; the middle of a gradient, for parameters that are one number here."""
    if isinstance(value, list) and value:
        middle = value[len(value) // 2]
        return (
            _one(middle["value"]) if isinstance(middle, Mapping) and "value" in middle else middle
        )
    return value


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _text(path: Path) -> yaml_text.Document:
    try:
        return yaml_text.document(yaml_text.read_text(path))
    except OSError as error:
        raise _wrong(path, error.strerror or str(error), "check the path for a typo") from error
    except yaml_text.BadYaml as error:
        raise _wrong(path, error.why, line=error.line) from error


def _wrong(
    path: Path, why: str, fix: str = "docs/tools.md shows what is read", line: int = 0
) -> BadRecipe:
    at = f", line {line}," if line else ""
    return BadRecipe(f"cannot read {path}{at} as a recipe of mergekit", why=why, fix=fix)
