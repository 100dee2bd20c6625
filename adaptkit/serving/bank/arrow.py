"""Arrow: each token chooses among adapters in each layer, by how alike it is to what each adapter reads.

An adapter's direction in a layer is the first right singular vector of its update there: the input that
the update changes most. A token's score for it is |x·v|; the `top` best share the token by a softmax.
https://arxiv.org/abs/2405.11157, in the form of PEFT's `create_arrow_model`, without training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

TOP = 3
TEMPERATURE = 1.0
"""PEFT's `ArrowConfig` has these defaults."""


class Tally:
    """What share of the tokens each adapter got, over tokens and layers."""

    def __init__(self, adapters: int) -> None:
        self._sums, self._layers = [0.0] * adapters, 0

    def add(self, shares: Mapping[int, float]) -> None:
        """The mean shares of one layer, by the adapters' places."""
        self._layers += 1
        for place, share in shares.items():
            self._sums[place] += share

    @property
    def means(self) -> tuple[float, ...]:
        """The mean share of each adapter."""
        return tuple(total / max(1, self._layers) for total in self._sums)


class ArrowMixture(Mapping[str, float]):
    """Adapters by key, to choose among for each token; as a mapping, each has weight 1."""

    def __init__(
        self,
        keys: Sequence[str],
        *,
        top: int = TOP,
        temperature: float = TEMPERATURE,
        tally: Tally | None = None,
    ) -> None:
        self.keys_in_order, self.top, self.temperature = tuple(keys), top, temperature
        self.tally = tally

    def __getitem__(self, key: str) -> float:
        if key not in self.keys_in_order:
            raise KeyError(key)
        return 1.0

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_in_order)

    def __len__(self) -> int:
        return len(self.keys_in_order)


@dataclass(frozen=True, slots=True)
class ArrowMix:
    """The slots that a row's tokens choose among."""

    slots: tuple[int, ...]
    top: int = TOP
    temperature: float = TEMPERATURE
    tally: Tally | None = field(default=None, compare=False)


def first_direction(A: Tensor, B: Tensor) -> Tensor:
    """The first right singular vector of Bᵀ·A, for A (r×n) and B (r×m), as a unit vector of n numbers."""
    import torch

    Q, R = torch.linalg.qr(A.float().T)  # n×r, r×r: the update is (Bᵀ·Rᵀ)·Qᵀ
    inner = torch.linalg.svd(B.float().T @ R.T, full_matrices=False).Vh[0]
    return Q @ inner


def shares(x: Tensor, directions: Tensor, mix: ArrowMix) -> Tensor:
    """Each token's share for each adapter (tokens × adapters), from its inputs (tokens × n)."""
    alike = (x.float() @ directions.T).abs()
    best, at = alike.topk(min(mix.top, alike.shape[1]), dim=1)
    return alike.new_zeros(alike.shape).scatter_(1, at, (best / mix.temperature).softmax(1))


def add_arrow(
    x: Tensor,
    output: Tensor,
    stacks: tuple[Tensor, Tensor, Tensor | None],
    mix: ArrowMix,
    directions: Mapping[int, Tensor],
) -> None:
    """Add one row's update (x is tokens × n); `stacks` are A, B and bias by slot.

    Slots without an update in this layer have no direction and are not chosen here.
    """
    import torch

    places = [place for place, slot in enumerate(mix.slots) if slot in directions]
    if not places:
        return
    A, B, bias = stacks
    slots = [mix.slots[place] for place in places]
    share = shares(x, torch.stack([directions[slot] for slot in slots]), mix)
    for column, slot in enumerate(slots):
        update = (x @ A[slot].T) @ B[slot]
        if bias is not None:
            update = update + bias[slot]
        output += (update * share[:, column : column + 1].to(update.dtype)).to(output.dtype)
    if mix.tally is not None:
        mix.tally.add(dict(zip(places, share.mean(0).tolist(), strict=True)))
