"""The new values of one tensor, block after block in the order of the file, rounded once."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.bases.weights import as_matrix
from adaptkit.errors import MergeError
from adaptkit.io.safetensors.reader import numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adaptkit.adapters.changes import Tensor
    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bases.weights import BaseWeights
    from adaptkit.extend import Array

_BLOCK = 1 << 18  # elements of a weight worked on at once: what a core keeps in its cache


class Rounding:
    """What the stored dtype leaves out of an update, on every sixteenth block, over all threads."""

    def __init__(self) -> None:
        self._lost = self._whole = 0.0
        self._lock = Lock()

    @property
    def lost(self) -> float | None:
        """Relative to the update; None where none was measured."""
        return (self._lost / self._whole) ** 0.5 if self._whole else None

    def note(self, before: Array, exact: Array, stored: Array) -> None:
        """One block: as it was, as it should be, as it is stored."""
        whole = float(np.square(exact - before, dtype=np.float64).sum())
        lost = float(np.square(stored.astype(exact.dtype) - exact, dtype=np.float64).sum())
        with self._lock:
            self._whole += whole
            self._lost += lost


def new_values(
    source: OpenAdapter, weights: BaseWeights, name: str, tensor: Tensor, rounding: Rounding
) -> Iterator[Array]:
    """Blocks of the tensor, in its dtype."""
    stored = (
        source.adapter.read(tensor.replaced_by)
        if tensor.replaced_by
        else weights.read(tensor.source)
    )
    target = numpy_dtype(tensor.dtype)
    if stored.dtype.kind in "iub":
        yield stored
        return
    working = np.dtype(np.float64 if target.itemsize >= 4 else np.float32)
    if tensor.biases:
        yield rounded(_with_biases(source, tensor, stored.astype(working)), target, name)
    elif tensor.rows_from[0]:
        key, rows = tensor.rows_from
        whole = np.zeros(tensor.shape, target)
        whole[: len(stored)] = stored.astype(target)
        whole[list(rows)] = rounded(source.adapter.read(key).astype(working), target, name)
        yield whole
    elif not tensor.changes:
        flat = stored.reshape(-1)
        for at in range(0, flat.size, _BLOCK):
            yield rounded(flat[at : at + _BLOCK].astype(working), target, name)
    else:
        at = 0
        flat = stored.reshape(-1)
        for number, block in enumerate(_with_updates(source, tensor, stored, working)):
            made = rounded(block, target, name)
            if number % 16 == 0:
                before = flat[at : at + block.size].reshape(block.shape).astype(working)
                rounding.note(before, block, made)
            at += block.size
            yield made


def rounded(block: Array, target: np.dtype[Any], name: str) -> Array:
    """Values in the dtype they are stored in; `MergeError` where they do not fit it."""
    with np.errstate(over="ignore"):
        made = block.astype(target)
        sound = (
            bool(np.isfinite(made).all())
            if target == np.float16
            else bool(np.isfinite(block.sum()))
        )
    if not sound:
        raise MergeError(
            f"the tensor '{name}' came out as NaN or Inf",
            why=f"its values do not fit {target.name}",
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
            yield from _as_they_are(stored[at : change.at], working)
            matrix, offset = stored[change.at : change.at + change.count], change.row
            at = change.at + change.count
        sideways = change.whole and (module.kind == "conv1d" or module.transposed)
        if sideways or not method.by_rows(view):  # its rows do not lie one behind the other
            whole = apply(matrix.astype(working), slice(offset, offset + matrix.shape[0]))
            yield whole.T if sideways else whole
            continue
        step = max(1, _BLOCK // matrix.shape[1])
        for first in range(0, matrix.shape[0], step):
            rows = slice(first, min(first + step, matrix.shape[0]))
            yield apply(
                matrix[rows].astype(working), slice(offset + rows.start, offset + rows.stop)
            )
    if not tensor.changes[0].whole:
        yield from _as_they_are(stored[at:], working)


def _as_they_are(rows: Array, working: np.dtype[Any]) -> Iterator[Array]:
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    for first in range(0, rows.shape[0], step):
        yield rows[first : first + step].astype(working)
