"""What the operations of `Workspace` return."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.io.html import table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.bake.extract import ExtractReport
    from adaptkit.bake.run import BakeReport
    from adaptkit.extend import Promise
    from adaptkit.merge.recipe import Recipe
    from adaptkit.merge.report import MergeReport
    from adaptkit.types import AliasMove, Lineage, Manifest, Parent, Placement, Receipt, Version
    from adaptkit.workspace.merge.calibrate import Calibrated
    from adaptkit.workspace.tasks.merge import Estimate


def names(version: Version | None) -> dict[str, Any]:
    """What a version is called, wherever JSON names one; nulls for what was not registered."""
    if version is None:
        return {"ref": None, "name": None, "version": None}
    return {"ref": version.ref, "name": version.name, "version": version.number}


@dataclass(frozen=True, slots=True)
class Added:
    """A version and whether it is new (`created`) or what the name already was.

    `skipped` files did not come in. `same_as` is another version with the same bytes.
    """

    version: Version
    created: bool
    skipped: tuple[str, ...] = ()
    same_as: str = ""

    def __repr__(self) -> str:
        return f"<Added {self.version.ref}{'' if self.created else ', unchanged'}>"

    def _repr_html_(self) -> str:
        """The version, for notebooks."""
        return self.version._repr_html_()

    def to_json(self) -> dict[str, Any]:
        version = self.version
        return {
            **names(version),
            "digest": version.digest,
            "method": version.method,
            "rank": version.rank,
            "base": version.base.to_json(),
            "created": self.created,
            "aliases": list(version.aliases),
            "skipped": list(self.skipped),
            "same_as": self.same_as,
        }


@dataclass(frozen=True, slots=True)
class AddedAll:
    """Many adapters added: each version, a message for each that failed, and files left out."""

    added: tuple[Added, ...]
    failures: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "added": [one.to_json() for one in self.added],
            "failures": list(self.failures),
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True, slots=True)
class RemovedAll:
    """Versions moved to the trash, and a message for each that could not be."""

    removed: tuple[Version, ...]
    failures: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"removed": [v.to_json() for v in self.removed], "failures": list(self.failures)}


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
            "strategy": f"{report.strategy} in {report.space} space",
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
class Trained:
    """An adapter trained: the version it became, `facts.training` of its manifest, and what was measured of it."""

    version: Version
    created: bool
    facts: Mapping[str, Any]
    calibrated: Calibrated | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            **names(self.version),
            "digest": self.version.digest,
            "created": self.created,
            "training": dict(self.facts),
            "calibrated": self.calibrated and self.calibrated.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Pushed:
    """A version and the receipt of the place it went to: `naval@3 → …@7`."""

    version: Version
    receipt: Receipt

    def __repr__(self) -> str:
        receipt = self.receipt
        return f"<Pushed {self.version.ref} → {receipt.place}@{receipt.number}>"

    def to_json(self) -> dict[str, Any]:
        return names(self.version) | asdict(self.receipt)


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything known of one version."""

    version: Version
    manifest: Manifest
    parents: tuple[Parent, ...]
    placements: tuple[Placement, ...]

    def __repr__(self) -> str:
        return f"<Shown {self.version.ref}>"

    def _repr_html_(self) -> str:
        """The version, its parents and its places, for notebooks."""
        parents = [(p.label, f"{p.weight:g}", p.digest[:19]) for p in self.parents]
        places = [(p.place, p.number) for p in self.placements]
        return (
            self.version._repr_html_()
            + (table(("parent", "weight", "digest"), parents) if parents else "")
            + (table(("place", "number"), places) if places else "")
        )

    def to_json(self) -> dict[str, Any]:
        manifest = self.manifest
        return self.version.to_json() | {
            "files": [asdict(f) for f in manifest.files + manifest.extras],
            "parents": [asdict(p) for p in self.parents],
            "placements": [asdict(p) for p in self.placements],
            "recipe": manifest.recipe,
            "facts": dict(manifest.facts),
        }


@dataclass(frozen=True, slots=True)
class Logged:
    """The history of one name: its versions, newest first, and the moves of its aliases."""

    versions: tuple[Version, ...]
    moves: tuple[AliasMove, ...]
    former_names: tuple[str, ...] = ()
    lineages: Mapping[str, Lineage] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Logged {len(self.versions)} versions, {len(self.moves)} moves of aliases>"

    def _repr_html_(self) -> str:
        """The versions, for notebooks."""
        rows = [
            (v.ref, v.created[:19], v.origin, " ".join(v.aliases), v.message) for v in self.versions
        ]
        return table(("version", "created", "origin", "aliases", "message"), rows)

    def to_json(self) -> dict[str, Any]:
        return {
            "versions": [v.to_json() for v in self.versions],
            "moves": [asdict(m) for m in self.moves],
            "former_names": list(self.former_names),
        }


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify` found.

    Sound artifacts, an error message for each damaged one, those that are only stored elsewhere,
    and how many versions have a base that is `verified`, only `measured`, `claimed` or
    `unverified`.
    """

    sound: tuple[str, ...]
    damaged: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()
    bases: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "sound": list(self.sound),
            "damaged": list(self.damaged),
            "elsewhere": list(self.elsewhere),
            "bases": dict(self.bases),
        }


@dataclass(frozen=True, slots=True)
class Probed:
    """What a place was found to promise, by trying."""

    url: str
    promise: Promise

    def to_json(self) -> dict[str, Any]:
        return {"url": self.url, **asdict(self.promise)}


@dataclass(frozen=True, slots=True)
class Info:
    """How much a workspace holds.

    Counts of the registry, bytes of the store, bytes of each team, (used, limit) of quotas.
    """

    home: str
    registry: str
    counts: Mapping[str, int]
    store: Mapping[str, int]
    teams: Mapping[str, int]
    quotas: Mapping[str, tuple[int, int]]

    def to_json(self) -> dict[str, Any]:
        quotas = {
            name: {"used": used, "limit": limit} for name, (used, limit) in self.quotas.items()
        }
        return {
            "home": self.home,
            "registry": self.registry,
            "counts": dict(self.counts),
            "store": dict(self.store),
            "teams": dict(self.teams),
            "quotas": quotas,
        }


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature made or accepted: of what, by which key.

    `created` is False when that key had signed just this before.
    """

    ref: str
    digest: str
    key: str
    fingerprint: str
    created: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
