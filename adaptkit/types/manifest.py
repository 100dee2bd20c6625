"""What is recorded of an artifact: its manifest, with its parents."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

from adaptkit.types.base_identity import BaseIdentity
from adaptkit.types.facts import Facts
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
