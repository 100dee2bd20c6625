"""The new values of one tensor, piece after piece in the order of the file, rounded once.

Notable choices:
- a block of rows is widened, updated and rounded while it is in a core's second-level cache, in arrays that are made
  once for each tensor; blocks are gathered into pieces that are worth a write
- rows of those arrays are a little longer than the weight's: where they have a power of two of numbers, the matrix
  product takes up to twice as long, because lines of different rows share a place in the cache
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.bases.weights import as_matrix
from adaptkit.errors import MergeError
from adaptkit.extend import AddLowRank
from adaptkit.io.safetensors.reader import numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptkit.adapters.fitting.changes import Tensor
    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bases.weights import BaseWeights
    from adaptkit.extend import Applier, Array

_BLOCK = (
    1 << 17
)  # elements worked on at once: with their update and their result, what a core keeps in its cache
_PIECE = 1 << 19  # elements handed over at once
_PADDING = 16  # elements after each row
_EXPONENTS = {"float16": 0x7C00, "bfloat16": 0x7F80}  # the smallest bits that are no finite number


class Rounding:
    """What the stored dtype leaves out of an update, on every thirty-second block, over all threads."""

    def __init__(self) -> None:
        self._lost = self._whole = 0.0
        self._lock = Lock()

    @property
    def lost(self) -> float | None:
        """Relative to the update; None where none was measured."""
        return (self._lost / self._whole) ** 0.5 if self._whole else None

    def note(self, before: Array, exact: Array, stored: Array) -> None:
        """One block: as it was, as it should be, as it is stored."""
        whole, lost = (exact - before).reshape(-1), (stored - exact).reshape(-1)
        self.add(float(np.dot(lost, lost)), float(np.dot(whole, whole)))

    def add(self, lost: float, whole: float) -> None:
        """What was left out of some blocks and their whole updates, as sums of squares."""
        with self._lock:
            self._lost += lost
            self._whole += whole

    @property
    def sums(self) -> tuple[float, float]:
        """What was left out and the whole, as `add` takes them."""
        return self._lost, self._whole


def new_values(
    source: OpenAdapter, weights: BaseWeights, name: str, tensor: Tensor, rounding: Rounding
) -> Iterator[Array]:
    """Pieces of the tensor, in its dtype; each is valid until the next is asked for."""
    stored = (
        source.adapter.read(tensor.replaced_by)
        if tensor.replaced_by
        else weights.read(tensor.source)
    )
    target = numpy_dtype(tensor.dtype)
    if stored.dtype.kind in "iub" and stored.dtype == target:
        yield stored
        return
    working = np.dtype(np.float64 if target.itemsize >= 4 else np.float32)
    if tensor.padded:
        sides = zip(tensor.shape, stored.shape, strict=True)
        yield np.pad(stored, [(0, new - old) for new, old in sides])
    elif tensor.biases:
        yield rounded(_with_biases(source, tensor, stored.astype(working)), target, name)
    elif tensor.rows_from[0]:
        key, rows = tensor.rows_from
        whole = np.zeros(tensor.shape, target)
        if tensor.changes:  # of another adapter that was merged with the one that brings the rows
            updated = [np.copy(b) for b in _with_updates(source, tensor, stored, working)]
            stored = rounded(np.concatenate(updated), target, name)
        whole[: len(stored)] = stored.astype(target)
        whole[list(rows)] = rounded(source.adapter.read(key).astype(working), target, name)
        yield whole
    else:
        blocks = (
            _with_updates(source, tensor, stored, working)
            if tensor.changes
            else _as_they_are(stored.reshape(-1, 1))
        )
        yield from _gathered(blocks, stored, target, name, rounding if tensor.changes else None)


def _gathered(
    blocks: Iterator[Array],
    stored: Array,
    target: np.dtype[Any],
    name: str,
    rounding: Rounding | None,
) -> Iterator[Array]:
    """Blocks, rounded once, in pieces that are worth a write."""
    flat, at = stored.reshape(-1), 0
    piece, filled = np.empty(min(_PIECE, flat.size), target), 0
    for number, block in enumerate(blocks):
        if filled + block.size > piece.size:
            yield finite(piece[:filled], name)
            filled = 0
        if block.size > piece.size:  # one row alone
            piece = np.empty(block.size, target)
        made = piece[filled : filled + block.size].reshape(block.shape)
        _round_into(made, block)
        if rounding is not None and number % 32 == 0:
            rounding.note(flat[at : at + block.size].reshape(block.shape), block, made)
        filled += block.size
        at += block.size
    yield finite(piece[:filled], name)


def rounded(block: Array, target: np.dtype[Any], name: str) -> Array:
    """Values in the dtype they are stored in; `MergeError` where they do not fit it."""
    made = np.empty(block.shape, target)
    _round_into(made, block)
    return finite(made, name)


def _round_into(made: Array, block: Array) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(made, block, casting="unsafe")


def finite(made: Array, name: str) -> Array:
    """The same values; `MergeError` where some are NaN or Inf."""
    exponent = _EXPONENTS.get(made.dtype.name)
    if exponent is None:
        sound = bool(np.isfinite(made.sum(dtype=np.float64)))
    else:  # as integers, what is not finite is largest among its sign
        bits = made.view(np.uint16)
        signed, largest = bits.view(np.int16).max(initial=0), bits.max(initial=0)
        sound = bool(signed < exponent and largest < exponent | 0x8000)
    if not sound:
        raise MergeError(
            f"the tensor '{name}' came out as NaN or Inf",
            why=f"its values do not fit {made.dtype.name}",
            fix="--dtype bfloat16 or float32",
        )
    return made


def _with_biases(source: OpenAdapter, tensor: Tensor, total: Array) -> Array:
    for module in tensor.biases:
        apply = source.method.bias_applier(source.adapter, module)
        assert apply is not None
        rows = slice(module.part * module.shape[0], (module.part + 1) * module.shape[0])
        total[rows] = apply(total[rows])
    return total


def _with_updates(
    source: OpenAdapter, tensor: Tensor, stored: Array, working: np.dtype[Any]
) -> Iterator[Array]:
    """Every row of the tensor once: those of a module updated, those of none as they are."""
    method, view = source.method, source.adapter
    at = 0
    for change in sorted(tensor.changes, key=lambda c: (c.at, c.module.part)):
        module = change.module
        apply = method.applier(view, module)
        if change.whole:
            matrix, offset = as_matrix(stored, module), 0
        else:
            yield from _as_they_are(stored[at : change.at])
            matrix, offset = stored[change.at : change.at + change.count], change.row
            at = change.at + change.count
        sideways = change.whole and (module.kind == "conv1d" or module.transposed)
        if sideways or not method.by_rows(view):  # its rows do not lie one behind the other
            whole = apply(matrix.astype(working), slice(offset, offset + matrix.shape[0]))
            yield from _as_they_are(whole.T if sideways else whole)
        else:
            yield from _updated(apply, matrix, offset, working)
    if not tensor.changes[0].whole:
        yield from _as_they_are(stored[at:])


def _updated(apply: Applier, matrix: Array, offset: int, working: np.dtype[Any]) -> Iterator[Array]:
    """The rows of a module, updated; the first of them is its row `offset`."""
    count, columns = matrix.shape
    step = _rows_in_a_block(columns)
    if isinstance(apply, AddLowRank):
        update, weight = np.zeros((2, min(step, count), columns + _PADDING), working)
    for first in range(0, count, step):
        block = matrix[first : first + step]
        rows = slice(offset + first, offset + first + len(block))
        if isinstance(apply, AddLowRank):
            update, weight = update[: len(block)], weight[: len(block)]
            apply.update(rows, update[:, :columns])
            np.copyto(weight[:, :columns], block)
            update += weight  # the padding too: without gaps it takes a third of the time
            yield update[:, :columns]
        else:
            yield apply(block.astype(working), rows)


def _as_they_are(matrix: Array) -> Iterator[Array]:
    step = _rows_in_a_block(matrix.shape[1])
    for first in range(0, matrix.shape[0], step):
        yield matrix[first : first + step]


def _rows_in_a_block(columns: int) -> int:
    return max(1, _BLOCK // max(1, columns))
