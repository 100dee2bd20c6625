"""Open what was written as its reader will, before it gets its name."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from adaptkit.adapters.fitting.fit import unopenable
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import BakeError
from adaptkit.io.safetensors.reader import same_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from adaptkit.bake.plan import BakePlan


def check_written(weights: BaseWeights, planned: BakePlan, work: Path) -> None:
    """Open what was written as its reader will: the class's names and shapes, and untouched tensors byte for byte."""
    plan = planned.tensors
    with BaseWeights.open(work) as written:
        written.cache = weights.cache
        after = written.architecture()
        if wrong_names := unopenable(after, planned.before, plan):
            raise BakeError(
                f"{after.name} could not load what was written to {work}",
                why="; ".join(wrong_names[:4]),
                fix="please report this with the adapter's config",
            )
        found = {
            name: (place.entry.dtype, place.entry.shape)
            for name, place in (written.layout.tensors or {}).items()
        }
        wrong = defaultdict(list)
        if found != {name: (tensor.dtype, tensor.shape) for name, tensor in plan.items()}:
            wrong["names, shapes or dtypes"] = sorted(found.keys() ^ plan.keys()) or ["some tensor"]
        for name, tensor in plan.items():
            if (
                tensor.source
                and not tensor.changed
                and tensor.dtype == weights.location(tensor.source).entry.dtype
                and not same_bytes(written.raw(name), weights.raw(tensor.source))
            ):
                wrong["untouched tensors"].append(name)
            written.drop_pages(name)
            if tensor.source:
                weights.drop_pages(tensor.source)
    if wrong:
        raise BakeError(
            f"what was written to {work} is not what was meant",
            why=str(dict(wrong)),
            fix="check the disk, then bake again with --clean",
        )
