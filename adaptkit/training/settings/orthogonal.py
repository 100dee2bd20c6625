"""`--orthogonal-to`: an A to start from whose rows lie apart from those of other adapters (O-LoRA, arXiv 2310.14152).

A starts as PEFT would draw it (uniform within 1/√n), less what lies in the span of the others' rows, at its old norm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from adaptkit.errors import TrainingError
from adaptkit.extend import LowRank
from adaptkit.io.safetensors.writer import TensorWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.extend import Array


def write_start(others: Sequence[OpenAdapter], rank: int, seed: int, out: Path) -> int:
    """Write the A of every module that the others change; returns how many there are."""
    rows: dict[str, list[Array]] = {}
    for other in others:
        for module in other.method.modules(other.adapter):
            if module.parts > 1 or module.kind not in {"linear", "conv1d"}:
                continue
            delta = other.method.delta(other.adapter, module)
            if isinstance(delta, LowRank):
                rows.setdefault(module.name, []).append(delta.A.astype(np.float64))
    if not rows:
        raise TrainingError(
            "cannot start orthogonal to these adapters",
            why="none of them has low-rank factors",
            fix="leave out --orthogonal-to",
        )
    starts = {name: apart_from(np.vstack(found), rank, seed, name) for name, found in rows.items()}
    layout = {name: ("F32", values.shape) for name, values in sorted(starts.items())}
    with TensorWriter(out, layout) as writer:
        for name in layout:
            writer.write(name, starts[name])
        writer.commit()
    return len(starts)


def apart_from(taken: Array, rank: int, seed: int, name: str) -> Array:
    """A start for A (rank × n) orthogonal to the rows of `taken` (k × n); float32."""
    width = taken.shape[1]
    _, values, basis = np.linalg.svd(taken, full_matrices=False)
    basis = basis[values > values[0] * 1e-7] if len(values) and values[0] > 0 else basis[:0]
    if len(basis) + rank > width:
        raise TrainingError(
            f"cannot start '{name}' orthogonal to these adapters",
            why=f"they take {len(basis)} of its {width} dimensions, and rank {rank} needs as many more",
            fix="fewer adapters, or a lower --rank",
        )
    chance = np.random.default_rng([seed, *name.encode()])
    drawn = chance.uniform(-1, 1, (rank, width)) / np.sqrt(width)
    left = drawn - (drawn @ basis.T) @ basis
    left *= np.linalg.norm(drawn, axis=1, keepdims=True) / np.linalg.norm(
        left, axis=1, keepdims=True
    )
    start: Array = left.astype(np.float32)
    return start
