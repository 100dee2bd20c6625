"""What adaptkit knows of a base: its class, what is tied, where embedding and head are, what adapters can go on."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from adaptkit.bases.files.checkpoint import declared_quantisation, scaled_tensor
from adaptkit.bases.weights import BaseWeights

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class BaseReport:
    """One base as its class describes it; `unknown` says why where there is no class."""

    path: str
    model_class: str
    task: str
    parameters: int
    tensors: int
    layers: dict[str, int]
    ties: tuple[tuple[str, ...], ...]
    embedding: str
    head: str
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    computed: dict[str, str]
    quantised: str
    unknown: str
    components: dict[str, str]
    """Of a pipeline: the class of each component that adapters change."""
    remarks: tuple[str, ...] = ()
    """What to know about its files: which variant of the weights was read, and which were not."""

    @property
    def bakes(self) -> bool:
        """Whether adapters can go into its weights."""
        return not self.quantised

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"bakes": self.bakes}


def check_base(folder: Path, cache: Path | None = None) -> BaseReport:
    """Look at headers and configuration; no weights are read."""
    with BaseWeights.open(folder, cache) as weights:
        found = weights.architecture()
        declared = declared_quantisation(weights.layout.config)
        sources = dict.fromkeys(found.ties.values())
        return BaseReport(
            str(folder),
            found.name,
            found.task,
            len(found.parameters),
            len(weights.shapes),
            dict(sorted(Counter(found.layers.values()).items())),
            tuple(found.tied_with(source) for source in sources),
            found.embedding,
            found.head,
            found.missing() if found.known else (),
            found.unused,
            dict(found.altered),
            declared.method if declared else scaled_tensor(weights.layout) or "",
            found.unknown,
            dict(found.parts),
            tuple(weights.layout.remarks()),
        )
