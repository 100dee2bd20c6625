"""Writes the contract between adaptkit and its plugins from the contract itself; run by cog inside docs/plugins.md."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise

from adaptkit import extend, hookspecs

CLASSES = (
    extend.MergeStrategy,
    extend.AdapterMethod,
    extend.StorageBackend,
    extend.Trainer,
    extend.Engine,
    extend.Executor,
)


def hooks() -> str:
    """Every hook: its exact signature, and what it is for."""
    found = [
        node
        for node in ast.parse(inspect.getsource(hookspecs)).body
        if isinstance(node, ast.FunctionDef)
    ]
    return "\n".join(
        f"\n```python\ndef {_signature(node)}\n```\n\n{ast.get_docstring(node)}" for node in found
    )


def classes() -> str:
    """Every class that plugins subclass: what must be there, and what may be."""
    return "\n".join(_class(cls) for cls in CLASSES)


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
