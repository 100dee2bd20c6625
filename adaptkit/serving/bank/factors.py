"""An opened adapter as torch factors per module, or the reason why it cannot share a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, BadWeights
from adaptkit.extend import LowRank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.extend import Array


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """One module's update x·Aᵀ·Bᵀ + bias: `A` is r×n, `B` is r×m (transposed, scale included)."""

    A: Tensor
    B: Tensor
    bias: Tensor | None = None

    @property
    def rank(self) -> int:
        return int(self.A.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors hold."""
        parts = [self.A, self.B] if self.bias is None else [self.A, self.B, self.bias]
        return sum(part.numel() * part.element_size() for part in parts)


@dataclass(frozen=True, slots=True, eq=False)
class AdapterFactors:
    """All modules of one adapter, by the base's module names."""

    label: str
    modules: Mapping[str, Factors]

    @property
    def rank(self) -> int:
        """The largest rank over the modules."""
        return max(factors.rank for factors in self.modules.values())

    @property
    def nbytes(self) -> int:
        """Bytes that all tensors hold."""
        return sum(factors.nbytes for factors in self.modules.values())


def why_not_shared(source: OpenAdapter) -> str:
    """Why an adapter cannot share a batch with others, as a clause; empty if it can."""
    method, view = source.method, source.adapter
    if reason := method.unmergeable(view):
        return reason
    if (need := method.needs(view)) != "nothing":
        return f"its update depends on the base's {need}"
    if extras := method.extras(view):
        return f"it brings the tensor '{extras[0]}', which is no low-rank update"
    for module in method.modules(view):
        if module.parts != 1 or module.kind not in {"linear", "conv1d"}:
            return f"it changes '{module.name}', a layer of the kind {module.kind}"
    try:
        first = method.delta(view, method.modules(view)[0])
    except AdaptkitError as error:
        return error.summary
    return "" if isinstance(first, LowRank) else "its updates are not low-rank"


def read_factors(source: OpenAdapter, dtype: Any) -> AdapterFactors:
    """Read every module's factors, the scale multiplied into B, in a torch dtype on the CPU."""
    import torch

    method, view = source.method, source.adapter
    found: dict[str, Factors] = {}
    for module in method.modules(view):
        delta = method.delta(view, module)
        assert isinstance(delta, LowRank)  # `why_not_shared` has looked
        scaled = to_torch(delta.B).to(torch.float32).T * float(delta.scale)
        found[module.name] = Factors(
            to_torch(delta.A).to(dtype).contiguous(),
            scaled.to(dtype).contiguous(),
            None
            if delta.bias is None
            else (to_torch(delta.bias).to(torch.float32) * float(delta.scale)).to(dtype),
        )
        if not all(bool(part.isfinite().all()) for part in (found[module.name].A, scaled)):
            raise BadWeights(
                f"cannot serve {source.label}",
                why=f"the factors of '{module.name}' hold NaN or Inf",
                fix="use an earlier checkpoint",
            )
    return AdapterFactors(source.label, found)


def to_torch(array: Array) -> Tensor:
    """A tensor with the array's values; it shares memory only where the array may be written."""
    import numpy as np
    import torch

    if array.dtype.name == "bfloat16":  # torch cannot read numpy's foreign dtypes
        bits = np.ascontiguousarray(array).view(np.uint16).copy()
        return torch.from_numpy(bits).view(torch.bfloat16)
    return torch.from_numpy(
        np.ascontiguousarray(array) if array.flags.writeable else np.array(array)
    )
