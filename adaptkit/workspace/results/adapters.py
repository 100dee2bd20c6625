"""What operations on registered adapters return."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.io.html import table
from adaptkit.io.sizes import count_text
from adaptkit.workspace.results.names import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.types import AliasMove, Lineage, Manifest, Parent, Placement, Receipt, Version


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
        return (
            f"<Logged {count_text(len(self.versions), 'version')}, "
            f"{count_text(len(self.moves), 'move')} of aliases>"
        )

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
