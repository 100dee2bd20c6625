"""What a built model says of itself: parameters, kinds of layers, which parameters are one object."""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.bases.architecture import Architecture, Piece
from adaptkit.bases.classes.uses import computes_as, looked_into, read_directly

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Described:
    """A torch module, described: see `Architecture` for the fields."""

    parameters: Mapping[str, tuple[int, ...]]
    layers: Mapping[str, str]
    groups: Mapping[str, int]
    transposed: frozenset[str]
    ties: Mapping[str, str]
    embedding: str
    head: str
    buffers: Mapping[str, tuple[int, ...]]
    looked_into: frozenset[str] = frozenset()


def on_no_device(build: Callable[[], Any]) -> Any:
    """The model that `build` makes, with no memory for its weights and none of its warnings."""
    import torch

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        return build()


def by_its_own_names(
    name: str, model: Any, tensors: Mapping[str, tuple[int, ...]], *, head: str = ""
) -> Architecture:
    """The architecture of a model whose checkpoint has the names of its parameters; `head` counts where it is a layer."""
    found = described(model)
    return Architecture(
        name,
        "",
        found.parameters,
        found.layers,
        found.groups,
        found.transposed,
        found.ties,
        head=head if head in found.layers else "",
        pieces={
            tensor: (Piece(tensor, 0, 0, shape[0] if shape else 1),)
            for tensor, shape in tensors.items()
            if tensor in found.parameters
        },
        unused=tuple(t for t in tensors if t not in found.parameters and t not in found.buffers),
        buffers={t: found.buffers[t] for t in tensors if t in found.buffers},
        looked_into=found.looked_into,
    )


def described(model: Any) -> Described:
    """Look at a built model; nothing of its weights is read."""
    named = list(model.named_parameters(remove_duplicate=False))
    modules = list(model.named_modules())
    layers = {name: kind for name, module in modules if (kind := _kind(module))}
    model_type = getattr(getattr(model, "config", None), "model_type", "")
    layers |= dict.fromkeys(read_directly(modules, model_type) & layers.keys(), "read")
    groups = {
        name: int(module.groups)
        for name, module in modules
        if name in layers and int(getattr(module, "groups", 1)) > 1
    }
    embedding, head = _embeddings(model, modules)
    return Described(
        {name: tuple(p.shape) for name, p in named},
        layers,
        groups,
        frozenset(name for name, module in modules if getattr(module, "is_transposed", False)),
        _ties(named, embedding),
        embedding,
        head,
        {name: tuple(b.shape) for name, b in model.named_buffers(remove_duplicate=False)},
        looked_into(modules),
    )


_PLAIN = {"Linear": "linear"} | dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), "convolution")


def _kind(module: Any) -> str:
    from torch import nn

    for plain, kind in _PLAIN.items():
        if isinstance(module, getattr(nn, plain)):
            return kind if computes_as(module, getattr(nn, plain)) else "own"
    if isinstance(module, nn.Embedding):
        return "embedding" if _looks_up(module) else ""
    named = type(module).__name__ == "Conv1D" and hasattr(module, "nf")
    return "conv1d" if named else ""  # transformers.pytorch_utils.Conv1D keeps its weight in×out


def _looks_up(module: Any) -> bool:
    """Whether an embedding takes numbers of rows, scaled or not; learned positions of OPT and BART take a mask or shape."""
    from torch import nn

    plain = type(module).forward is nn.Embedding.forward
    return plain or hasattr(module, "embed_scale") or hasattr(module, "scalar_embed_scale")


def _ties(named: list[tuple[str, Any]], embedding: str) -> dict[str, str]:
    """Parameters that are one object, each with the name they are known by: the input embedding's, else the first."""
    objects: dict[int, list[str]] = defaultdict(list)
    for name, parameter in named:
        objects[id(parameter)].append(name)
    return {
        name: next((n for n in names if n == f"{embedding}.weight"), names[0])
        for names in objects.values()
        if len(names) > 1
        for name in names
    }


def _embeddings(model: Any, modules: list[tuple[str, Any]]) -> tuple[str, str]:
    """The names of the input embedding and of the output head."""
    found = []
    for ask in ("get_input_embeddings", "get_output_embeddings"):
        try:
            module = getattr(model, ask)()
        except (AttributeError, NotImplementedError):
            module = None
        found.append(next((name for name, m in modules if m is module), "") if module else "")
    return found[0], found[1]
