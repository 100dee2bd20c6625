"""Adapters whose updates are no low-rank factors: they change weights of the live model while their own batch runs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.errors import BakeError, BaseMismatch, MergeError, Refused
from adaptkit.serving.bank.factors import to_torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from adaptkit.adapters.opened import OpenAdapter


@dataclass(frozen=True, slots=True, eq=False)
class WholeWeights:
    """New values of the base's parameters, and why this adapter needs a batch of its own."""

    label: str
    reason: str
    tensors: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes that all tensors hold."""
        return sum(part.numel() * part.element_size() for part in self.tensors.values())


def read_whole(source: OpenAdapter, base: Path, reason: str, parameters: Any) -> WholeWeights:
    """The parameters as `bake` would write them; methods that cannot be baked are refused with their reason.

    `parameters` are the live model's by name: what has no parameter of the same name and size is a
    `BaseMismatch`.
    """
    import numpy as np

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bake.apply import Rounding, new_values
    from adaptkit.bake.plan import plan_bake
    from adaptkit.bases.weights import BaseWeights

    tensors: dict[str, Tensor] = {}
    with BaseWeights.open(base) as weights:
        source.adapter.attach_base(weights)
        opened = OpenAdapter(source.adapter, source.method, source.digest, weights)
        try:
            plan = plan_bake(opened, weights, None)
        except (BakeError, MergeError) as error:
            raise Refused(
                f"cannot serve {source.label}", why=error.why or error.what, fix=error.fix
            ) from error
        for name, tensor in plan.tensors.items():
            if not tensor.changed:
                continue
            live = parameters.get(name)
            if live is None or tuple(live.shape) != tuple(tensor.shape):
                raise BaseMismatch(
                    f"cannot serve {source.label}",
                    why=f"it changes '{name}', and the live model has no such parameter ({reason})",
                    fix="bake it into a model of its own: adaptkit bake",
                )
            blocks = [
                np.array(block).reshape(-1)
                for block in new_values(opened, weights, name, tensor, Rounding())
            ]
            tensors[name] = to_torch(np.concatenate(blocks)).reshape(live.shape).to(live.dtype)
    return WholeWeights(source.label, reason, tensors)


@contextmanager
def swapped(parameters: Any, whole: WholeWeights) -> Iterator[None]:
    """The live model with these parameters, until the block ends."""
    before = {name: parameters[name].data for name in whole.tensors}
    try:
        for name, values in whole.tensors.items():
            parameters[name].data = values.to(before[name].device)
        yield
    finally:
        for name, values in before.items():
            parameters[name].data = values
