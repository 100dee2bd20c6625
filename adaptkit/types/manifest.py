"""What is recorded of an artifact: its manifest, with parents and facts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, cast

from adaptkit.types.base_identity import BaseIdentity
from adaptkit.types.files import FileEntry, artifact_digest

if TYPE_CHECKING:
    from collections.abc import Mapping


MANIFEST_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Parent:
    """One ancestor of an artifact, by digest, with its weight, its role and its name then."""

    digest: str
    weight: float = 1.0
    role: str = "merged"
    label: str = ""


class LossFacts(TypedDict):
    """What a merge lost, as shares of the norm (None: undefined), and which extras it dropped."""

    error: float | None
    from_sum: float | None
    dropped: list[str]


class Facts(TypedDict, total=False):
    """What only some origins record. Other keys are kept; a value of another type is left out when it is read."""

    loss: LossFacts  # of a merge
    made_with: dict[str, str]  # what the bytes of a merge depend on besides its recipe
    forced: list[str]  # what --force overruled
    warnings: list[str]  # bases that could not be compared
    extracted: dict[str, Any]  # {"loss": float | None, "left_out": [name]}
    converted_from: dict[
        str, Any
    ]  # {"path", "sha256", "dialect", "notes", "metadata"} of the file that was read
    cannot_bake: list[str]  # why the update cannot become part of its base's weights
    stripped: Any  # what was left out of a parent
    found: dict[str, str]  # {"place", "revision", "made_by"} of what others published
    training: dict[str, Any]  # {"data": [{"label", "digest"}], "datasets": [name], …}
    distilled: dict[str, Any]  # how a merge was trained towards its parents
    weighed: dict[str, Any]  # how the weights of a merge were chosen
    search: dict[
        str, Any
    ]  # {"study", "trials", "trial", "seed", "skills", "suites"} that chose a merge
    plugins_off: list[str]  # plugins that were disabled then


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is fixed when an artifact is made: `adaptkit.json`, never part of the digest.

    `files` are digested; `extras` travel beside them (README.md) and are verified but not digested.
    `facts` holds what only some origins record: merge losses, training data digests, what was
    forced.
    """

    digest: str
    files: tuple[FileEntry, ...]
    method: str
    rank: int | None = None
    base: BaseIdentity = field(default_factory=BaseIdentity)
    extras: tuple[FileEntry, ...] = ()
    parents: tuple[Parent, ...] = ()
    recipe: Mapping[str, Any] | None = None
    facts: Facts = field(default_factory=Facts)
    created: str = ""

    def to_json(self) -> dict[str, Any]:
        """The content of `adaptkit.json`, less the number a place adds."""
        return {
            "schema": MANIFEST_SCHEMA,
            "digest": self.digest,
            "method": self.method,
            "rank": self.rank,
            "base": self.base.to_json(),
            "files": [asdict(f) for f in self.files],
            "extras": [asdict(f) for f in self.extras],
            "parents": [asdict(p) for p in self.parents],
            "recipe": self.recipe,
            "facts": dict(self.facts),
            "created": self.created,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """Read back what `to_json` wrote; KeyError, TypeError or ValueError when it is not one."""
        from adaptkit.types.checks.schema import check_manifest, sound_facts

        if data["schema"] != MANIFEST_SCHEMA:
            raise ValueError(
                f"schema {data['schema']!r} is not one this version reads (it reads {MANIFEST_SCHEMA})"
            )
        check_manifest(data)
        manifest = cls(
            digest=data["digest"],
            files=tuple(FileEntry(**f) for f in data["files"]),
            method=data["method"],
            rank=data.get("rank"),
            base=BaseIdentity.from_json(data.get("base") or {}),
            extras=tuple(FileEntry(**f) for f in data.get("extras", ())),
            parents=tuple(Parent(**p) for p in data.get("parents", ())),
            recipe=data.get("recipe"),
            facts=cast("Facts", sound_facts(data.get("facts") or {})),
            created=data.get("created", ""),
        )
        if artifact_digest(manifest.files) != manifest.digest:
            raise ValueError("its file list does not give the digest it states")
        return manifest
