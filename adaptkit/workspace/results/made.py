"""What operations that make an adapter or a model return."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.io.html import table
from adaptkit.io.sizes import count_text, size_text
from adaptkit.workspace.results.names import names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.bake.extract import ExtractReport
    from adaptkit.bake.run import BakeReport
    from adaptkit.merge.recipe import Recipe
    from adaptkit.merge.report import MergeReport
    from adaptkit.types import Manifest, Version
    from adaptkit.types.facts import TrainingFacts
    from adaptkit.workspace.tasks.merge import Estimate


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge made: its report and recipe, and the version or the folder it became."""

    report: MergeReport
    recipe: Recipe
    manifest: Manifest
    version: Version | None = None
    created: bool = True
    out: Path | None = None

    def __repr__(self) -> str:
        where = self.version.ref if self.version else self.out
        loss = self.report.error.total
        lost = "" if loss is None else f", loss {loss:.2g}"
        return f"<Merged {where} by {self.report.strategy}, rank {self.report.rank}{lost}>"

    def _repr_html_(self) -> str:
        """What went in and what came out, for notebooks."""
        report = self.report
        parents = table(
            ("adapter", "weight"), [(p.label, f"{p.weight:g}") for p in self.recipe.sources]
        )
        made = {
            "result": self.version.ref if self.version else self.out,
            "strategy": report.how,
            "modules": len(report.ranks),
            "rank": report.rank,
            "loss": "" if report.error.total is None else f"{report.error.total:.2g}",
            "dropped": ", ".join(report.dropped),
        }
        return parents + table((), [row for row in made.items() if row[1] not in {"", None}])

    def to_json(self) -> dict[str, Any]:
        report = self.report
        return {
            **names(self.version),
            "out": str(self.out) if self.out else None,
            "created": self.created,
            "digest": self.manifest.digest,
            "recipe": self.recipe.digest,
            "strategy": report.strategy,
            "space": report.space,
            "rank": report.rank,
            "ranks": dict(report.ranks),
            "dtype": report.dtype,
            "error": {"total": report.error.total, "modules": dict(report.error.modules)},
            "from_sum": report.from_sum,
            "dropped": list(report.dropped),
            "base": self.manifest.base.to_json(),
            "sources": [asdict(parent) for parent in self.manifest.parents],
        }


@dataclass(frozen=True, slots=True)
class Baked:
    """A full model made.

    Its report, and, where that was looked at, how far its logits are from the live adapter's, or of a pipeline the
    outputs of each changed component; relative to the largest.
    """

    report: BakeReport
    apart: float | None = None
    components_apart: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        report = self.report
        tensors = count_text(len(report.changed), "tensor")
        return f"<Baked {report.out}: {tensors} changed, {size_text(report.nbytes)}>"

    def to_json(self) -> dict[str, Any]:
        return asdict(self.report) | {
            "out": str(self.report.out),
            "logits_apart": self.apart,
            "components_apart": dict(self.components_apart),
        }


@dataclass(frozen=True, slots=True)
class PlannedBake:
    """What a bake would write: its weight files, how many tensors change, the bytes, and what it takes."""

    files: tuple[str, ...]
    changed: int
    nbytes: int
    takes: Estimate

    def to_json(self) -> dict[str, Any]:
        return {
            "files": list(self.files),
            "changed": self.changed,
            "nbytes": self.nbytes,
            "seconds": self.takes.seconds,
            "pays": self.takes.pays,
        }


@dataclass(frozen=True, slots=True)
class Extracted:
    """An adapter taken out of a fine-tune: its report, and the version or the folder it became."""

    report: ExtractReport
    digest: str
    version: Version | None = None
    out: Path | None = None

    def to_json(self) -> dict[str, Any]:
        report = self.report
        return {
            **names(self.version),
            "out": str(self.out) if self.out else None,
            "digest": self.digest,
            "rank": report.rank,
            "ranks": dict(report.ranks),
            "error": {"total": report.error.total, "modules": dict(report.error.modules)},
            "left_out": list(report.left_out),
            "left_out_share": report.left_out_share,
            "saved": list(report.saved),
        }


@dataclass(frozen=True, slots=True)
class Stripped:
    """An adapter without some of its parts: the tensors left out, and the version or the folder it became."""

    left_out: tuple[str, ...]
    digest: str
    version: Version | None = None
    out: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            **names(self.version),
            "out": str(self.out) if self.out else None,
            "digest": self.digest,
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What was measured of a version's inputs: `modules` of them in `moments` second moments, `size` bytes in all."""

    ref: str
    digest: str
    rows: int
    tokens: int
    modules: int
    moments: int
    size: int
    unmeasured: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Trained:
    """An adapter trained: the version it became, `facts.training` of its manifest, and what was measured of it."""

    version: Version
    created: bool
    facts: TrainingFacts
    calibrated: Calibrated | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            **names(self.version),
            "digest": self.version.digest,
            "created": self.created,
            "training": dict(self.facts),
            "calibrated": self.calibrated and self.calibrated.to_json(),
        }
