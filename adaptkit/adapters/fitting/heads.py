"""Heads that an adapter brings and its base has not: the class that the adapter's task has for this configuration.

An adapter for classification is trained on a base that was saved without the head, or with another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.adapters.fitting.changes import Tensor
from adaptkit.bases.describe import architecture_of
from adaptkit.extend.module_names import same_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.adapters.fitting.fitted import Fit
    from adaptkit.bases.architecture import Architecture

_TASKS = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "CAUSAL_LM", "SEQ_2_SEQ_LM")


def class_with_heads(made: Fit, replacements: Mapping[str, str]) -> None:
    """Make the result one of the class that has every tensor which the adapter brings whole, if there is one."""
    arch = made.architecture
    if not arch.known:
        return
    lacking = {name: key for name, key in replacements.items() if not arch.find(name)}
    if not lacking:
        return
    shapes = {name: made.adapter.header[key].shape for name, key in lacking.items()}
    found = _search(made, shapes)
    if found is None:
        return
    other, config = found
    _become(made, other)
    made.config |= config
    for name, key in lacking.items():
        parameter = other.find(name)[0]
        info = made.adapter.header[key]
        made.tensors[parameter] = Tensor("", info.shape, info.dtype, replaced_by=key)
    made.remarks.append(
        f"the base is a {arch.name}; the result is a {other.name}, with the adapter's "
        + " and ".join(f"'{name}'" for name in sorted(lacking))
    )


def _search(
    made: Fit, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Architecture, dict[str, Any]] | None:
    """The class of a task, and what its configuration says, that has parameters of these names and shapes."""
    asked = made.adapter.config.get("task_type")
    tasks = [asked] if asked in _TASKS else list(_TASKS)
    for task in tasks:
        for labels in sorted({shape[0] for shape in shapes.values() if shape}):
            config = {
                "id2label": {str(n): f"LABEL_{n}" for n in range(labels)},
                "label2id": {f"LABEL_{n}": n for n in range(labels)},
            }
            other = architecture_of(
                {**made.weights.layout.config, **config},
                made.weights.shapes,
                task=str(task),
                cache=made.weights.cache,
            )
            if other.known and all(
                len(other.find(name)) == 1 and other.parameters[other.find(name)[0]] == shape
                for name, shape in shapes.items()
            ):
                return other, config | {"architectures": [other.name]}
    return None


def _become(made: Fit, other: Architecture) -> None:
    """The tensors that the other class loads, under its own names where each is a parameter of its own."""
    kept = {piece.tensor for pieces in other.pieces.values() for piece in pieces}
    names = {
        pieces[0].tensor: parameter
        for parameter, pieces in other.pieces.items()
        if len(pieces) == 1 and pieces[0].expert is None
    }
    dropped = [name for name, tensor in made.tensors.items() if tensor.source not in kept]
    for name in dropped:
        del made.tensors[name]
    made.names = {
        tensor: parameter
        for tensor, parameter in names.items()
        if tensor != parameter and same_name(tensor, parameter)
    }
    for tensor, parameter in made.names.items():
        made.tensors[parameter] = made.tensors.pop(tensor)
    made.weights.load_as(other)
    if dropped:
        made.remarks.append(
            f"left out, since {other.name} does not load them: {', '.join(sorted(dropped)[:3])}"
            + (f" and {len(dropped) - 3} more" if len(dropped) > 3 else "")
        )
    made.architecture = other
