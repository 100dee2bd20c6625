"""What a bake will write: every tensor of the result, where it comes from, and what happens to it.

What fits is decided by `adapters.fitting.fit`; all refusals are made here, before anything is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.fitting.fit import fit
from adaptkit.bases.files.quantised import why_quantised
from adaptkit.bases.pipeline import COMPONENTS
from adaptkit.errors import BakeError, NotFound, Unmergeable
from adaptkit.io.safetensors.reader import STORED_DTYPES

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.adapters.fitting.changes import Tensor
    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.bases.architecture import Architecture
    from adaptkit.bases.weights import BaseWeights


@dataclass(slots=True)
class BakePlan:
    """Every tensor of the result, what changes in config.json, remarks for the reader, and the class that will load it."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    remarks: list[str]
    architecture: Architecture
    before: Architecture
    """What the base's own class says of it."""


def plan_bake(source: OpenAdapter, weights: BaseWeights, dtype: str | None) -> BakePlan:
    """Find a tensor for everything that the adapter changes."""
    view, method, label = source.adapter, source.method, source.label
    where = weights.layout.directory
    if quantised := why_quantised(weights.layout):
        raise BakeError(
            f"cannot bake into {where}",
            why=quantised,
            fix="bake into the full-precision model it was made from",
        )
    if reason := method.unbakeable(view):
        raise Unmergeable(f"cannot bake {label}", why=reason)
    if dtype is not None and dtype not in STORED_DTYPES:
        raise NotFound("dtype", dtype, STORED_DTYPES)
    made = fit(view, method, weights)
    if weights.layout.components and made.config.keys() - {COMPONENTS}:
        made.unbakeable.append(
            "it changes what a pipeline's components are, not only their weights"
        )
    if made.misfits:
        raise BakeError(
            f"{label} does not fit the base {where}", why=_some(made.misfits), fix=made.advice
        )
    if made.unbakeable:
        raise BakeError(
            f"cannot bake {label} into {where}",
            why=_some(made.unbakeable),
            fix="keep it as an adapter, take that part out (adaptkit strip REF --modules NAME), or give a base that has "
            "what is missing",
        )
    for tensor in made.tensors.values():
        tensor.dtype = _cast_to(tensor.dtype, dtype)
    if not any(t.changed for t in made.tensors.values()) and not made.layers.order:
        raise BakeError(
            f"cannot bake {label}",
            why="it would change nothing in the base",
            fix="look at adaptkit show",
        )
    before = made.before or made.architecture
    remarks = [*weights.layout.remarks(), *made.remarks]
    if made.passed_over:  # what was baked is what the adapter says
        remarks.append(f"baked all the same, where PEFT would not: {_some(made.passed_over)}")
    return BakePlan(made.tensors, made.config, remarks, made.architecture, before)


def by_file(plan: BakePlan, weights: BaseWeights) -> dict[Path, list[str]]:
    """Which file each tensor of the result goes to: that of the base's tensor, the last for what the base has not."""
    assert weights.layout.tensors is not None
    files: dict[Path, list[str]] = {file: [] for file in weights.layout.files}
    for name, tensor in plan.tensors.items():
        found = weights.layout.tensors[tensor.source].file if tensor.source else None
        files[found or weights.layout.files[-1]].append(name)
    return {file: names for file, names in files.items() if names}


def _cast_to(dtype: str, wanted: str | None) -> str:
    return (
        STORED_DTYPES[wanted]
        if wanted is not None and dtype in set(STORED_DTYPES.values())
        else dtype
    )


def _some(clauses: list[str]) -> str:
    more = f"; and {len(clauses) - 4} more" if len(clauses) > 4 else ""
    return "; ".join(clauses[:4]) + more
