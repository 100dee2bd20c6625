"""The stacked factors of one module: a slot per adapter, slot 0 always zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.errors import Refused
from adaptkit.serving.bank.arrow import add_arrow, first_direction
from adaptkit.serving.bank.kernels import (
    add_gathered,
    add_groups,
    add_segments,
    gather,
    prefer_groups,
    prefer_segments,
    with_fixed,
)
from adaptkit.serving.bank.rows import Kept, lay_out

if TYPE_CHECKING:
    from torch import Tensor

    from adaptkit.serving.bank.factors import Factors
    from adaptkit.serving.bank.layers import Layer
    from adaptkit.serving.bank.rows import Rows


SETTLED = 2  # steps of one token after which a batch is taken to go on


class ModuleTable:
    """`A` is slots × rank × n, `B` is slots × rank × m, `bias` slots × m where an adapter has one.

    `B` is a view of slots × m × rank, as PEFT's files have it: MKL reads it fastest with the rank innermost. For 128
    adapters of rank 8 and one token each the whole step takes 0.92 of the time.

    A slot is only ever written while no batch uses it, and growing makes new tensors, so a batch that
    runs meanwhile reads what it began with.
    """

    def __init__(self, layer: Layer, slots: int, rank: int, dtype: Any) -> None:
        import torch

        self.rank = rank
        self.name, self.outputs, self.inputs = layer.name, layer.outputs, layer.inputs
        device = next(layer.module.parameters()).device
        self._hold(
            torch.zeros(slots + 1, rank, self.inputs, dtype=dtype, device=device),
            torch.zeros(slots + 1, self.outputs, rank, dtype=dtype, device=device),
        )
        self.bias: Tensor | None = None
        self.ranks: dict[int, int] = {}
        self._directions: dict[int, Tensor] = {}

    def _hold(self, A: Tensor, stored: Tensor) -> None:
        """Use these stacks; in fp32 on a CPU numpy writes small matrices in half the time that torch takes."""
        import torch

        self.A, self._stored, self.B = A, stored, stored.transpose(1, 2)
        plain = A.dtype is torch.float32 and A.device.type == "cpu"
        self._numbers = (A.numpy(), self.B.numpy()) if plain else None

    @property
    def nbytes(self) -> int:
        """Bytes that all slots hold."""
        parts = [self.A, self.B] if self.bias is None else [self.A, self.B, self.bias]
        return sum(part.numel() * part.element_size() for part in parts)

    def growth(self, rank: int) -> int:
        """How many bytes more a rank would take."""
        more = max(0, rank - self.rank)
        return more and int(
            more * self.A.shape[0] * (self.inputs + self.outputs) * self.A.element_size()
        )

    def grow(self, rank: int) -> None:
        """Make room for a larger rank."""
        more = rank - self.rank
        if more > 0:
            from torch.nn.functional import pad

            self._hold(pad(self.A, (0, 0, 0, more)), pad(self._stored, (0, more)))
            self.rank = rank

    def write(self, slot: int, factors: Factors) -> None:
        """Put an adapter's factors into a slot that no batch uses."""
        rank = factors.rank
        self.grow(rank)
        self._directions.pop(slot, None)
        before = self.ranks.get(slot, 0)
        if self._numbers is not None:
            A, B = self._numbers
            A[slot, :rank], B[slot, :rank] = factors.A.numpy(), factors.B.numpy()
        else:
            self.A[slot, :rank].copy_(factors.A, non_blocking=True)
            self.B[slot, :rank].copy_(factors.B, non_blocking=True)
        if before > rank:
            self.A[slot, rank:before].zero_()
            self.B[slot, rank:before].zero_()
        if factors.bias is not None and self.bias is None:
            self.bias = self.B.new_zeros(self.B.shape[0], self.outputs)
        if self.bias is not None:
            if factors.bias is None:
                self.bias[slot].zero_()
            else:
                self.bias[slot].copy_(factors.bias, non_blocking=True)
        self.ranks[slot] = rank

    def clear(self, slot: int) -> None:
        """Make a slot zero again."""
        rank = self.ranks.pop(slot, 0)
        self._directions.pop(slot, None)
        if rank:
            self.A[slot, :rank].zero_()
            self.B[slot, :rank].zero_()
            if self.bias is not None:
                self.bias[slot].zero_()

    def add(self, x: Tensor, output: Tensor, plan: Rows) -> Tensor:
        """The layer's output with every row's own update added; rows of the base stay as they are."""
        kept = self._kept(plan)
        if not kept.rank:
            return output
        flat = x.dim() == 2
        if flat:
            x, output = self._as_rows(x, output, plan)
        if x.shape[0] != plan.count:
            plan = _repeated(plan, x.shape[0], self.name)
            kept = self._kept(plan)
        A, B = self.A[:, : kept.rank], self.B[:, : kept.rank]
        x = x if x.dtype == A.dtype else x.to(A.dtype)
        if output.requires_grad:
            output = output.clone()
        if not plan.entries:
            pass
        elif prefer_segments(plan.slots.shape[0], len(plan.distinct), x.shape[1]):
            add_segments(x, output, A, B, plan)
        elif (factors := self._settled(A, B, plan, kept, x.shape[1])) is not None:
            add_gathered(x, output, *factors, plan)
        elif prefer_groups(plan, kept.rank, self.inputs + self.outputs, x.shape[1]):
            add_groups(x, output, A, B, plan)
        else:
            add_gathered(x, output, *gather(A, B, plan), plan)
        if self.bias is not None and plan.entries:
            self._add_bias(output, plan)
        for row, mix in plan.arrows:
            found = {slot: self.direction(slot) for slot in mix.slots if slot in self.ranks}
            add_arrow(x[row], output[row], (A, B, self.bias), mix, found)
        return output.squeeze(0) if flat else output

    def direction(self, slot: int) -> Tensor:
        """What the adapter in a slot changes most: the first right singular vector of its update."""
        if slot not in self._directions:
            rank = self.ranks[slot]
            self._directions[slot] = first_direction(self.A[slot, :rank], self.B[slot, :rank])
        return self._directions[slot]

    def _kept(self, plan: Rows) -> Kept:
        """The largest rank of a batch's adapters here; 0 where none touches this module."""
        found = plan.kept.get(self.name)
        if found is None:
            rank = max((self.ranks[slot] for slot in plan.touched if slot in self.ranks), default=0)
            found = plan.kept[self.name] = Kept(rank)
        return found

    def _settled(
        self, A: Tensor, B: Tensor, plan: Rows, kept: Kept, tokens: int
    ) -> tuple[Tensor, Tensor] | None:
        """Each entry's factors, kept once a batch has made some steps: its slots do not change.

        Only in the computer's memory, where copying costs more than the products, and not where rows share an
        adapter and groups copy none of it: a batch then holds each of its rows' adapters once more.
        """
        if kept.factors is None and A.device.type == "cpu":
            kept.steps += tokens == 1
            own = len(plan.entries) == len(plan.distinct)
            if kept.steps > SETTLED and (
                own or not prefer_groups(plan, kept.rank, self.inputs + self.outputs, 1)
            ):
                kept.factors = gather(A, B, plan)
        return kept.factors

    def add_fixed(self, x: Tensor, output: Tensor, slots: Tensor, weights: Tensor) -> Tensor:
        """As `add`, with shapes that never change."""
        x = x if x.dtype == self.A.dtype else x.to(self.A.dtype)
        added = with_fixed(x, output, self.A, self.B, slots, weights)
        if self.bias is not None:
            bias = (self.bias[slots] * weights.to(self.bias.dtype)[..., None]).sum(1)
            added = added + bias[:, None].to(added.dtype)
        return added

    def _as_rows(self, x: Tensor, output: Tensor, plan: Rows) -> tuple[Tensor, Tensor]:
        """Tokens that come without their rows: all are of one row when the batch has only one."""
        if plan.count == 1:
            return x[None], output[None]
        raise Refused(
            f"cannot batch different adapters on '{self.name}'",
            why="the model hands this layer its tokens without their rows",
            fix="run the requests of each adapter in a batch of one",
        )

    def _add_bias(self, output: Tensor, plan: Rows) -> None:
        assert self.bias is not None
        bias = self.bias[plan.slots]
        if plan.weights is not None:
            bias = bias * plan.weights.to(bias.dtype)[:, None]
        bias = bias[:, None].to(output.dtype)
        if plan.rows is None:
            output += bias
        else:
            output.index_add_(0, plan.rows, bias.expand(-1, output.shape[1], -1))


def _repeated(plan: Rows, count: int, name: str) -> Rows:
    """The plan where each row stands `count / rows` times in a row, as beam search lays beams out."""
    times, rest = divmod(count, plan.count)
    if rest or not times:
        raise Refused(
            f"cannot run this batch through '{name}'",
            why=f"it has {count} rows, and adapters were named for {plan.count}",
            fix="name one adapter for each row",
        )
    entries = tuple(
        (slot, row * times + again, weight)
        for slot, row, weight in plan.entries
        for again in range(times)
    )
    return lay_out(entries, count, plan.slots.device, plan.arrows_repeated(times))
