"""Parameters that a model's class ties, after an adapter: one tensor still, or one for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.adapters.fitting.changes import Tensor
from adaptkit.bases.describe import architecture_of
from adaptkit.extend import LowRank

if TYPE_CHECKING:
    from adaptkit.adapters.fitting.fitted import Fit

_KEY = "tie_word_embeddings"


def settle_ties(made: Fit) -> None:
    """Keep together what stays equal; for the rest, declare it untied and give each parameter a tensor of its own."""
    apart = []
    for source, members in made.groups.items():
        tensors = [made.tensors[name] for name in members.values()]
        if all(_same(made, tensors[0], other) for other in tensors[1:]):
            _join(made, members)
        else:
            apart.append(source)
    if not apart:
        return
    config = _untied(made.result_config())
    shapes = {name: tensor.shape for name, tensor in made.tensors.items()}
    after = architecture_of(config, shapes, cache=made.weights.cache)
    dissolved = after.known and not any(source in after.ties.values() for source in apart)
    if dissolved:
        made.config |= {k: v for k, v in config.items() if made.result_config().get(k) != v}
        _complete(made, after.missing())
    for source in apart:
        names = " and ".join(f"'{name}'" for name in made.groups[source].values())
        made.remarks.append(
            f"{names} were tied; the adapter does not change them alike, so they are tensors of their own now"
            + (
                ""
                if dissolved
                else f" (no setting of {made.architecture.name} says so: transformers 5 keeps apart what is "
                "stored with different values, older versions tie it again)"
            )
        )


def _untied(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration that says they are apart, here and in its parts."""
    parts = {
        name: part | {_KEY: False}
        for name, part in config.items()
        if isinstance(part, dict) and _KEY in part
    }
    return config | parts | {_KEY: False}


def _complete(made: Fit, missing: tuple[str, ...]) -> None:
    """Parameters that were tied with others, and now are not, get what they had."""
    arch = made.architecture
    for name in missing:
        stored = [p for other in arch.tied_with(name) for p in arch.pieces.get(other, ())]
        if len(arch.tied_with(name)) > 1 and stored and name not in made.tensors:
            home = made.tensors[stored[0].tensor]
            made.tensors[name] = Tensor(
                home.source,
                home.shape,
                home.dtype,
                list(home.changes),
                list(home.biases),
                home.replaced_by,
                home.rows_from,
            )


def _join(made: Fit, members: dict[str, str]) -> None:
    """One change for all of them: what the base did not store stays unstored."""
    stored = made.weights.shapes
    for name in members.values():
        if name not in stored:
            del made.tensors[name]


def _same(made: Fit, one: Tensor, other: Tensor) -> bool:
    """Whether two tensors that were equal stay equal."""
    if (len(one.changes), len(one.biases)) != (len(other.changes), len(other.biases)):
        return False
    if one.shape != other.shape or one.rows_from[1] != other.rows_from[1]:
        return False
    for a, b in ((one.replaced_by, other.replaced_by), (one.rows_from[0], other.rows_from[0])):
        if bool(a) != bool(b):
            return False
        if a != b and not np.array_equal(made.adapter.read(a), made.adapter.read(b)):
            return False
    if one.biases != other.biases:
        return False
    return all(
        _same_update(made, a.module, b.module)
        for a, b in zip(one.changes, other.changes, strict=True)
    )


def _same_update(made: Fit, a: Any, b: Any) -> bool:
    if a == b:
        return True
    if made.method.needs(made.adapter) == "weights":
        return False
    one, other = (made.method.delta(made.adapter, module) for module in (a, b))
    return (
        isinstance(one, LowRank)
        and isinstance(other, LowRank)
        and one.scale == other.scale
        and np.array_equal(one.B, other.B)
        and np.array_equal(one.A, other.A)
    )
