"""Writes the contract between adaptkit and its plugins from the contract itself; run by cog inside docs/plugins.md."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise

from adaptkit import extend, hookspecs
from adaptkit import types as types_
from adaptkit.extend import method, review, storage

CLASSES = (
    extend.MergeStrategy,
    extend.AdapterMethod,
    extend.StorageBackend,
    extend.Trainer,
    extend.Engine,
    extend.Executor,
)

TYPES: tuple[type, ...] = (
    extend.AdapterView,
    method.Module,
    method.LowRank,
    method.Dense,
    method.Translated,
    method.Model,
    review.Merge,
    review.Publish,
    review.Delete,
    review.MoveAlias,
    review.Objection,
    storage.Bundle,
    storage.PushOptions,
    storage.Promise,
    types_.Event,
    types_.Version,
    types_.Manifest,
    types_.BaseIdentity,
    types_.Level,
    types_.Parent,
    types_.FileEntry,
    types_.TensorInfo,
    types_.PlacedVersion,
    types_.Receipt,
)


def hooks() -> str:
    """Every hook: its exact signature, and what it is for."""
    found = [
        node
        for node in ast.parse(inspect.getsource(hookspecs)).body
        if isinstance(node, ast.FunctionDef)
    ]
    return "\n".join(
        f"\n```python\ndef {_signature(node)}: ...\n```\n\n{ast.get_docstring(node)}"
        for node in found
    )


def classes() -> str:
    """Every class that plugins subclass: what must be there, and what may be."""
    return "\n".join(_class(cls) for cls in CLASSES)


def types() -> str:
    """Every value that a plugin is handed or hands over, with its fields."""
    return "\n".join(_fields(cls) for cls in TYPES)


def _fields(cls: type) -> str:
    (tree,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(tree, ast.ClassDef)
    members = [
        _field(node, after) if isinstance(node, ast.AnnAssign) else _property(node)
        for node, after in pairwise([*tree.body, ast.Pass()])
        if isinstance(node, ast.AnnAssign)
        or (isinstance(node, ast.FunctionDef) and not node.name.startswith("_"))
    ]
    return "\n".join(["", f"### `{cls.__name__}`", "", inspect.getdoc(cls) or "", "", *members])


def _field(node: ast.AnnAssign, after: ast.stmt) -> str:
    name = ast.unparse(node.target)
    text = _attribute(node, after)
    return text.replace(f"- `{name}", f"- `{name}: {ast.unparse(node.annotation)}", 1)


def _property(node: ast.FunctionDef) -> str:
    marks = {mark.id for mark in node.decorator_list if isinstance(mark, ast.Name)}
    if "property" not in marks:
        return _method(node).removesuffix(": ")
    text = " ".join((ast.get_docstring(node) or "").split())
    returns = f": {ast.unparse(node.returns)}" if node.returns else ""
    return f"- `{node.name}{returns}`" + (f": {text}" if text else "")


def _class(cls: type) -> str:
    (tree,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(tree, ast.ClassDef)
    must, may = [], []
    for node, after in pairwise([*tree.body, ast.Pass()]):
        if isinstance(node, ast.AnnAssign):
            (may if node.value else must).append(_attribute(node, after))
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            abstract = any(
                isinstance(mark, ast.Name) and mark.id == "abstractmethod"
                for mark in node.decorator_list
            )
            (must if abstract else may).append(_method(node))
    lines = ["", f"### `{cls.__name__}`", "", inspect.getdoc(cls) or ""]
    for title, members in (("You give:", must), ("You may give:", may)):
        lines += ["", title, "", *members] if members else []
    return "\n".join(lines)


def _attribute(node: ast.AnnAssign, after: ast.stmt) -> str:
    default = f" = {ast.unparse(node.value)}" if node.value else ""
    text = ""
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
        text = ": " + inspect.cleandoc(str(after.value.value)).replace("\n", " ")
    return f"- `{ast.unparse(node.target)}{default}`{text}"


def _method(node: ast.FunctionDef) -> str:
    text = " ".join((ast.get_docstring(node) or "").split())
    return f"- `{_signature(node)}`: {text}"


def _signature(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returns}"
