"""An opened adapter as torch factors per module, or the reason why it cannot share a batch."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, BadWeights
from adaptkit.extend import LowRank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.extend import Array, Module


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """One module's update x·Aᵀ·Bᵀ + bias: `A` is r×n, `B` is r×m (transposed, scale included)."""

    A: Tensor
    B: Tensor
    bias: Tensor | None = None

    @property
    def rank(self) -> int:
        return int(self.A.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class AdapterFactors:
    """All modules of one adapter, by the base's module names."""

    label: str
    modules: Mapping[str, Factors]
    rank: int
    """The largest rank over the modules."""
    nbytes: int
    """Bytes that all tensors hold."""


def why_not_shared(source: OpenAdapter) -> str:
    """Why an adapter cannot share a batch with others, as a clause; empty if it can."""
    return judged(source)[0]


def judged(source: OpenAdapter) -> tuple[str, tuple[Module, ...]]:
    """Why an adapter cannot share a batch, empty if it can; and then its modules."""
    method, view = source.method, source.adapter
    if reason := method.unmergeable(view):
        return reason, ()
    if (need := method.needs(view)) != "nothing":
        return f"its update depends on the base's {need}", ()
    if extras := method.extras(view):
        return f"it brings the tensor '{extras[0]}', which is no low-rank update", ()
    modules = method.modules(view)
    for module in modules:
        if module.parts != 1 or module.kind not in {"linear", "conv1d"}:
            return f"it changes '{module.name}', a layer of the kind {module.kind}", ()
    try:
        first = method.delta(view, modules[0])
    except AdaptkitError as error:
        return error.summary, ()
    return ("", modules) if isinstance(first, LowRank) else ("its updates are not low-rank", ())


def read_factors(source: OpenAdapter, modules: Sequence[Module], dtype: Any) -> AdapterFactors:
    """Read every module's factors, the scale multiplied into B, in a torch dtype on the CPU.

    They are views of one buffer: one allocation and one look for NaN, whatever the number of modules. Numpy fills
    and reads it: torch would wake a thread pool that the model's own steps keep busy.
    """
    import numpy as np
    import torch

    method, view = source.method, source.adapter
    updates: list[tuple[str, LowRank]] = []
    for module in modules:
        delta = method.delta(view, module)
        assert isinstance(delta, LowRank)  # `judged` has looked
        updates.append((module.name, delta))
    sizes = (d.A.size + d.B.size + (0 if d.bias is None else d.bias.size) for _, d in updates)
    buffer = torch.empty(sum(sizes), dtype=dtype)
    numbers = buffer.numpy() if dtype is torch.float32 else None
    at = 0

    def place(array: Array, scale: float = 1.0) -> Tensor:
        nonlocal at
        begin, at = at, at + array.size
        if numbers is not None:
            values = numbers[begin:at].reshape(array.shape)
            np.copyto(values, array, casting="same_kind")
            if scale != 1.0:
                values *= np.float32(scale)
            return torch.from_numpy(values)
        target = buffer[begin:at].view(array.shape)
        if scale == 1.0:
            target.copy_(to_torch(array))
        else:
            torch.mul(to_torch(array).to(torch.float32), scale, out=target)
        return target

    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
        found = {
            name: Factors(
                place(d.A),
                place(d.B, float(d.scale)).T,
                None if d.bias is None else place(d.bias, float(d.scale)),
            )
            for name, d in updates
        }
    if not _finite(buffer):
        raise BadWeights(
            f"cannot serve {source.label}",
            why=f"the factors of '{_broken(found)}' hold NaN or Inf",
            fix="use an earlier checkpoint",
        )
    rank = max(factors.rank for factors in found.values())
    return AdapterFactors(source.label, found, rank, buffer.nbytes)


def _finite(buffer: Tensor) -> bool:
    """Whether all numbers are finite."""
    import torch

    if not buffer.numel():
        return True
    if buffer.dtype is torch.float32:
        numbers = buffer.numpy()
        return isfinite(numbers.min()) and isfinite(numbers.max())
    if (
        buffer.dtype.itemsize == 2
    ):  # numpy has no bf16, but infinities and NaN have the largest bits
        infinity = torch.tensor(inf, dtype=buffer.dtype).view(torch.int16).item()
        return bool((buffer.view(torch.int16).numpy() & 0x7FFF).max() < infinity)
    return all(isfinite(float(end)) for end in buffer.aminmax())


def _broken(found: Mapping[str, Factors]) -> str:
    """The first module whose factors are not finite."""
    return next(
        name
        for name, factors in found.items()
        if not all(
            bool(part.isfinite().all())
            for part in (factors.A, factors.B, factors.bias)
            if part is not None
        )
    )


def to_torch(array: Array) -> Tensor:
    """A tensor with the array's values; it shares memory only where the array may be written."""
    import numpy as np
    import torch

    if array.dtype.kind == "V" and array.dtype.name == "bfloat16":  # torch has no foreign dtypes
        bits = array.view(np.uint16)
        return torch.from_numpy(bits.copy()).view(torch.bfloat16)
    return torch.from_numpy(array if array.flags.writeable else np.array(array))
