"""Layers whose weight does more, or less, than their class's own computation with it.

PEFT adds an update where a layer is called. A model that reads `layer.weight` itself (WavLM's attention, DeBERTa's
relative positions, torch's MultiheadAttention) never sees that update, and a layer with a forward of its own
(a router's, a convolution that pads its input or standardises its weight) is not the sum that PEFT computes.

Notable choices:
- reads are found in the code of the classes that the model is made of; nothing runs, and files without one are skipped
- a forward of its own is asked on a small copy of the layer whether it computes what the plain class does
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
import sys
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

# methods that make, load or change weights before the model computes
_SETTING_UP = re.compile(
    r".*(init|load|reset|resize|fuse|prune|convert|rescale|reparam).*|_?tie_.*|set_.*"
)
_SETTINGS = frozenset(
    {"stride", "kernel_size", "padding", "dilation", "in_channels", "out_channels"}
    | {"num_embeddings", "embedding_dim", "padding_idx"}
)
_READS = re.compile(
    rf"(?<!\bself)(?<!\bmodule)\.weight\b|self\.\w+\.(?:{'|'.join(sorted(_SETTINGS))})\b"
)
_DESCRIBES = frozenset(
    {"dtype", "device", "shape", "ndim", "requires_grad", "is_meta", "size", "numel"}
)
# PEFT refuses LoRA on these layers of these models, whose kernels read the weights (tuners_utils, 0.21)
_KERNELS = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})
_IN_KERNELS = frozenset({"out_proj", "conv1d"})
_ITEM = "[]"  # behind an attribute that is a list, for its members
_PARSING = (
    Lock()
)  # https://github.com/python/cpython/issues/106905: two threads at it are a SystemError


def read_directly(modules: list[tuple[str, Any]], model_type: str = "") -> frozenset[str]:
    """The names of layers whose weight the model's code reads itself, instead of calling them or beside it."""
    from torch import nn

    kinds: dict[str, Any] = {name: type(module) for name, module in modules}
    layers = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    owned = [(name, *_owner(name, kinds)) for name, module in modules if isinstance(module, layers)]
    uses = {kind: _uses(kind) for kind in dict.fromkeys(kinds.values())}
    elsewhere = {leaf for _, _, others in uses.values() for leaf in others}
    nothing: frozenset[str] = frozenset()
    found = set()
    for name, owner, leaf in owned:
        reads, calls, _ = uses[owner] if owner is not None else (nothing, nothing, nothing)
        by_itself = leaf in reads and leaf.removesuffix(_ITEM) not in calls | _called_in(
            owner.__module__
        )
        in_kernels = model_type in _KERNELS and leaf in _IN_KERNELS
        if by_itself or in_kernels or leaf in elsewhere:
            found.add(name)
    return frozenset(found)


def _owner(name: str, kinds: Mapping[str, Any]) -> tuple[Any, str]:
    """The class that has a layer, and by which attribute: of a list of layers, the one that has the list."""
    from torch import nn

    parent, _, leaf = name.rpartition(".")
    if kinds.get(parent) in {nn.ModuleList, nn.ModuleDict}:
        parent, _, leaf = parent.rpartition(".")
        leaf += _ITEM
    return kinds.get(parent), leaf


def looked_into(modules: list[tuple[str, Any]]) -> frozenset[str]:
    """The names of convolutions and embeddings whose settings the model's code reads (Whisper's `conv1.stride`).

    PEFT's own layers, which take their places, have none of them: the model could not run with one.
    """
    from torch import nn

    kinds: dict[str, Any] = {name: type(module) for name, module in modules}
    return frozenset(
        name
        for name, module in modules
        if isinstance(module, (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d))
        and (owner := kinds.get(name.rpartition(".")[0])) is not None
        and name.rpartition(".")[2] in _inspects(owner)
    )


@cache
def _inspects(kind: Hashable) -> frozenset[str]:
    """Of a class: NAME of every `self.NAME.stride` and the like in its methods."""
    return frozenset(
        own
        for cls in inspect.getmro(kind)  # type: ignore[arg-type]
        for method in _methods(cls)
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute) and node.attr in _SETTINGS and (own := _own(node.value))
    )


@cache
def _uses(kind: Hashable) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Of a class: attributes whose weight it reads, those it uses otherwise, and names of others whose weight it reads."""
    reads: set[str] = set()
    calls: set[str] = set()
    others: set[str] = set()
    for cls in inspect.getmro(kind):  # type: ignore[arg-type]
        for node in _methods(cls):
            _look(node, reads, calls, others)
    return frozenset(reads), frozenset(calls), frozenset(others)


def _methods(cls: type) -> Iterator[ast.AST]:
    """The methods of a class as code; none where its file reads no weight."""
    file = cls.__module__
    if file.startswith("torch.") and cls.__name__ != "MultiheadAttention":
        return
    for node in _classes(file).get(cls.__qualname__, ()):
        if isinstance(node, ast.FunctionDef) and not _SETTING_UP.fullmatch(node.name):
            yield node


@cache
def _classes(file: str) -> dict[str, list[ast.stmt]]:
    return {node.name: node.body for node in _tree(file).body if isinstance(node, ast.ClassDef)}


@cache
def _called_in(file: str) -> frozenset[str]:
    """NAME of every `other.NAME(…)` in a file: diffusers' processors call the layers of the attention they are given."""
    calls = (node.func for node in ast.walk(_tree(file)) if isinstance(node, ast.Call))
    return frozenset(
        f.attr
        for f in calls
        if isinstance(f, ast.Attribute)
        and isinstance(f.value, ast.Name)
        and f.value.id not in {"self", "F", "nn", "torch"}
    )


@cache
def _tree(file: str) -> ast.Module:
    """A file as code; empty where it reads no weight."""
    module = sys.modules.get(file)
    try:
        text = inspect.getsource(module) if module is not None else ""
        read = not file.startswith("torch.") or file.endswith(".activation")
        with _PARSING:
            return ast.parse(text if read and _READS.search(text) else "")
    except (OSError, TypeError, SyntaxError):
        return ast.Module([], [])


def _look(tree: ast.AST, reads: set[str], calls: set[str], others: set[str]) -> None:
    """Sort every mention of `self.NAME` and of `NAME.weight` in a method."""
    weights: set[ast.AST] = set()  # mentions of a layer that are of its weight, or of what it is
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _DESCRIBES:
            weights |= {node.value}
            if isinstance(node.value, ast.Attribute):
                weights |= {node.value.value}
    described = set(weights)
    multiplied = {
        side
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
        for side in (node.left, node.right)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or node.attr not in {"weight", "bias"}:
            continue
        weights.add(node.value)
        if node.attr == "bias" or node in described or not isinstance(node.ctx, ast.Load):
            continue
        if isinstance(node.value, ast.Subscript) and (own := _own(node.value.value)):
            weights.add(node.value.value)
            reads.add(own + _ITEM)
        elif own := _own(node.value):
            reads.add(own)
            if node in multiplied:  # in place of a call, even where there is one too
                others.add(own)
        elif isinstance(node.value, ast.Attribute):
            others.add(node.value.attr)
        elif isinstance(node.value, ast.Name):
            others.add(node.value.id)
    calls |= {own for node in ast.walk(tree) if node not in weights and (own := _own(node))}
    others -= {"self", "module", "layer"}


def _own(node: ast.AST) -> str:
    """NAME of `self.NAME`."""
    found = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    return node.attr if found and node.value.id == "self" else ""  # type: ignore[attr-defined]


def computes_as(module: Any, plain: Any) -> bool:
    """Whether a layer with a forward of its own computes what its plain class does, on a small copy of it."""
    import torch
    from torch import nn

    if type(module).forward is plain.forward:
        return True
    generator = torch.Generator().manual_seed(0)
    rows, columns = (6, 4)
    if plain is not nn.Linear:
        rows, columns = module.groups, 1
    inner = tuple(module.kernel_size) if plain is not nn.Linear else ()
    small = copy.copy(module)
    small.__dict__ = dict(module.__dict__)
    small.__dict__["_parameters"] = {
        "weight": nn.Parameter(torch.randn(rows, columns, *inner, generator=generator)),
        "bias": None
        if module.bias is None
        else nn.Parameter(torch.randn(rows, generator=generator)),
    }
    width = columns if plain is nn.Linear else columns * module.groups
    sides = (
        tuple(2 * d * k + 3 for d, k in zip(module.dilation, inner, strict=True)) if inner else ()
    )
    shape = (2, width, *sides) if inner else (2, width)
    values = torch.randn(shape, generator=generator)
    try:
        with torch.no_grad():
            made, wanted = small(values), plain.forward(small, values)
        return bool(made.shape == wanted.shape and torch.allclose(made, wanted, atol=1e-5))
    except Exception:  # noqa: BLE001  (a forward that takes or gives something else is none of a plain layer)
        return False
