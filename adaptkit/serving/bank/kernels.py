"""Adding each row's low-rank update to a layer's output, in one of four ways.

- one adapter in every row: two plain products
- gathered: each entry's factors are copied side by side, then two batched products; its cost is the copy, so it
  wins where there are many adapters or few tokens
- groups: the rows of each slot side by side, padded, then two batched products over a range of slots; it copies tokens
  and no factors, so it wins where tokens are few and the slots lie close together
- segments: the rows of each adapter apart, two products each; its cost is the number of calls, so it wins where
  few adapters have many tokens
Which of the last three is chosen by entries, distinct adapters and tokens (`benchmarks/serving.py`).
The gathered form is Punica's BGMV (https://arxiv.org/abs/2310.18547) in plain torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from adaptkit.serving.bank.rows import Rows


def prefer_segments(entries: int, distinct: int, tokens: int) -> bool:
    """Whether segments cost less: very few adapters for the tokens that each has."""
    return distinct == 1 or (entries >= 16 * distinct and tokens >= 16)


def add_segments(x: Tensor, output: Tensor, A: Tensor, B: Tensor, plan: Rows) -> None:
    """Add to `output` (rows × tokens × m) the updates of `x` (rows × tokens × n), one adapter after the other."""
    for segment in plan.segments:
        mine = x if segment.rows is None else x.index_select(0, segment.rows)
        inner = mine @ A[segment.slot].T
        if segment.weights is not None:
            inner *= segment.weights.to(inner.dtype)[:, None, None]
        if segment.rows is None and inner.dtype == output.dtype and output.is_contiguous():
            output.view(-1, output.shape[-1]).addmm_(
                inner.view(-1, inner.shape[-1]), B[segment.slot]
            )
            continue
        update = (inner @ B[segment.slot]).to(output.dtype)
        if segment.rows is None:
            output += update
        else:
            output.index_add_(0, segment.rows, update)


def gather(A: Tensor, B: Tensor, plan: Rows) -> tuple[Tensor, Tensor]:
    """The factors of each entry side by side, B with the rank innermost as its stack has it.

    `A[slots]` would take four times as long on a CPU.
    """
    columns = B.transpose(1, 2)
    return A.index_select(0, plan.slots), columns.index_select(0, plan.slots).transpose(1, 2)


def project(x: Tensor, A: Tensor) -> Tensor:
    """x·Aᵀ for each slot: x is slots × rows × n, A slots × rank × n.

    For one row in fp32 on a CPU it is A·xᵀ, the same numbers: MKL reads A twice as fast that way.
    """
    if x.shape[1] == 1 and x.dtype.itemsize == 4 and x.device.type == "cpu":
        return A.bmm(x.transpose(1, 2)).transpose(1, 2)
    return x.bmm(A.transpose(1, 2))


def add_gathered(x: Tensor, output: Tensor, A: Tensor, B: Tensor, plan: Rows) -> None:
    """As `add_segments`, with all entries in one batched product; `A` and `B` are gathered."""
    mine = x if plan.rows is None else x.index_select(0, plan.rows)
    inner = project(mine, A)
    if plan.weights is not None:
        inner *= plan.weights.to(inner.dtype)[:, None, None]
    if plan.rows is None and inner.dtype == output.dtype:
        output.baddbmm_(inner, B)
        return
    update = inner.bmm(B).to(output.dtype)
    if plan.rows is None:
        output += update
    else:
        output.index_add_(0, plan.rows, update)


_WORTH = 1 << 18
"""Numbers in the factors of a batch from which copying them costs more than the calls that sort tokens by slot."""


def prefer_groups(plan: Rows, rank: int, width: int, tokens: int) -> bool:
    """Whether groups move fewer numbers: the factors of a range of slots once, and each entry's tokens.

    The gathered form reads, writes and reads again the factors of each entry; `width` is n + m.
    """
    slots = max(plan.distinct) - min(plan.distinct) + 1
    if slots * rank >= 3 * len(plan.entries) * rank:
        return False
    if plan.groups.in_order:
        return True
    if len(plan.entries) * rank * width < _WORTH:
        return False
    rows = slots * plan.groups.most
    return slots * rank + 3 * rows * tokens < 3 * len(plan.entries) * rank


def add_groups(x: Tensor, output: Tensor, A: Tensor, B: Tensor, plan: Rows) -> None:
    """As `add_segments`, with the entries of each slot side by side: no factor is copied."""
    groups, tokens = plan.groups, x.shape[1]
    A, B = A[groups.first : groups.end], B[groups.first : groups.end]
    slots = A.shape[0]
    mine = x if plan.rows is None else x.index_select(0, plan.rows)
    if groups.in_order:
        padded = mine.contiguous()
    elif groups.order is not None:
        padded = mine.index_select(0, groups.order)
    else:
        padded = x.new_zeros(slots * groups.most, tokens, x.shape[2])
        padded.index_copy_(0, groups.places, mine)
    inner = project(padded.view(slots, groups.most * tokens, -1), A)
    alone = groups.in_order and groups.most == 1 and plan.rows is None and plan.weights is None
    if alone and inner.dtype == output.dtype:
        output.baddbmm_(inner, B)
        return
    update = inner.bmm(B).view(slots * groups.most, tokens, -1)
    if not groups.in_order:
        update = update.index_select(0, groups.places)
    if plan.weights is not None:
        update *= plan.weights.to(update.dtype)[:, None, None]
    update = update.to(output.dtype)
    if plan.rows is None:
        output += update
    else:
        output.index_add_(0, plan.rows, update)


def with_fixed(
    x: Tensor, output: Tensor, A: Tensor, B: Tensor, slots: Tensor, weights: Tensor
) -> Tensor:
    """The gathered form with shapes that never change, for torch.compile.

    `slots` and `weights` are rows × places; a row that uses fewer places has the zero slot there.
    """
    places = slots.shape[1]
    flat = slots.reshape(-1)
    mine = x if places == 1 else x.repeat_interleave(places, 0)
    inner = (
        mine.bmm(A.index_select(0, flat).transpose(1, 2))
        * weights.reshape(-1).to(x.dtype)[:, None, None]
    )
    update = inner.bmm(B.transpose(1, 2).index_select(0, flat).transpose(1, 2))
    if places > 1:
        update = update.reshape(slots.shape[0], places, *update.shape[1:]).sum(1)
    return output + update.to(output.dtype)
