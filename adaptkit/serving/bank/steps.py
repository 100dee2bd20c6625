"""One token a row on a CPU, as in every step after the prompt: prepared once for a batch, whose slots do not change.

Notable choices:
- x·Aᵀ goes through groups (`kernels`), or through each entry's A side by side: copied once for all steps
- what B adds is a sum of B's rows weighted by x·Aᵀ, which is what `embedding_bag` computes: it reads the rows where
  they are, in any order and for rows that mix adapters, and no row of B is copied
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptkit.serving.bank.kernels import prefer_groups, project

if TYPE_CHECKING:
    from torch import Tensor

    from adaptkit.serving.bank.rows import Groups, Rows


def fits_step(x: Tensor, plan: Rows) -> bool:
    """Whether `Step` computes this: one token a row, several adapters, on a CPU, and no gradient is wanted."""
    return (
        x.shape[1] == 1
        and len(plan.distinct) > 1
        and x.device.type == "cpu"
        and not x.requires_grad
    )


class Step:
    """One module's part of each step of a batch; `A` and `B` are its stacks, `rank` is the largest that it needs."""

    def __init__(self, A: Tensor, B: Tensor, rank: int, plan: Rows) -> None:
        self._plan = plan
        self._bags = plan.bags(B.shape[1], rank)
        self._B = B.view(-1, B.shape[2])
        self._groups: Groups | None = None
        A = A[:, :rank]
        if prefer_groups(plan, rank, A.shape[2], 1):
            self._groups = plan.groups
            self._A = A[plan.groups.first : plan.groups.end]
        else:
            self._A = A.index_select(0, plan.slots)

    def add(self, x: Tensor, output: Tensor) -> None:
        """Add to `output` (rows × 1 × m) the updates of `x` (rows × 1 × n)."""
        from torch.nn.functional import embedding_bag

        inner = self._inner(x)
        if self._plan.weights is not None:
            inner = inner * self._plan.weights.to(inner.dtype)[:, None, None]
        bags = self._bags
        update = embedding_bag(
            bags.numbers,
            self._B,
            bags.ends,
            mode="sum",
            per_sample_weights=inner.reshape(-1),
            include_last_offset=True,
        ).to(output.dtype)
        if bags.rows is None:
            output.select(1, 0).add_(update)
        else:
            output.index_add_(0, bags.rows, update[:, None])

    def _inner(self, x: Tensor) -> Tensor:
        """x·Aᵀ of each entry."""
        rows, groups = self._plan.rows, self._groups
        mine = x if rows is None else x.index_select(0, rows)
        if groups is None:
            return project(mine, self._A)
        return groups.taken_back(project(groups.laid_out(mine), self._A), 1)


@dataclass(slots=True, eq=False)
class Kept:
    """What a module keeps of a batch: the largest rank there, and what its steps need."""

    rank: int
    step: Step | None = None
