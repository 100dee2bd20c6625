"""The frozen dataclasses that cross boundaries.

Reading one from JSON checks it by `adaptkit.types.schema`; else this takes the standard library only.

Every value that travels between the core, a plugin and the registry is one of these, so a reader
who knows this page knows what the packages say to each other.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypedDict, cast

from adaptkit.types.base_identity import (
    STATUSES,
    BaseIdentity,
    Level,
    Quantisation,
    Sameness,
    Verdict,
)
from adaptkit.types.lineage import Lineage
from adaptkit.types.search import Condition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "MANIFEST_SCHEMA",
    "STATUSES",
    "AliasMove",
    "BaseIdentity",
    "Condition",
    "Event",
    "Facts",
    "FileEntry",
    "Level",
    "Lineage",
    "LossFacts",
    "Manifest",
    "Parent",
    "PlacedVersion",
    "Placement",
    "Quantisation",
    "Receipt",
    "Sameness",
    "TensorInfo",
    "Verdict",
    "Version",
    "artifact_digest",
    "canonical_json",
    "digest_of",
]

MANIFEST_SCHEMA = 1


def canonical_json(value: object) -> str:
    """A JSON value as digests are taken of it: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest_of(value: object) -> str:
    """`sha256:…` of a value's canonical JSON."""
    return "sha256:" + sha256(canonical_json(value).encode()).hexdigest()


# ---------------------------------------------------------------- files


@dataclass(frozen=True, slots=True, order=True)
class FileEntry:
    """One file of an artifact: its relative posix path, size in bytes and sha256 (hex)."""

    path: str
    size: int
    sha256: str


def artifact_digest(files: Iterable[FileEntry]) -> str:
    """The name of an artifact: sha256 over the sorted list of (path, size, sha256)."""
    return digest_of([[f.path, f.size, f.sha256] for f in sorted(files)])


# ---------------------------------------------------------------- tensors


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor in a header: safetensors dtype (`F32`, `BF16`, …), shape, size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int


# ---------------------------------------------------------------- versions


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
    """What only some origins record. Other keys are kept; a foreign file may break these types."""

    loss: LossFacts  # of a merge
    made_with: dict[str, str]  # what the bytes of a merge depend on besides its recipe
    forced: list[str]  # what --force overruled
    warnings: list[str]  # bases that could not be compared
    extracted: dict[str, Any]  # {"loss": float | None, "left_out": [name]}
    converted_from: dict[str, Any]  # {"path", "sha256", "dialect"} of the file that was read
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
        from adaptkit.types.schema import check_manifest

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
            facts=cast("Facts", data.get("facts") or {}),
            created=data.get("created", ""),
        )
        if artifact_digest(manifest.files) != manifest.digest:
            raise ValueError("its file list does not give the digest it states")
        return manifest


@dataclass(frozen=True, slots=True)
class Version:
    """A numbered, immutable entry of a named adapter, as the registry knows it."""

    name: str
    number: int
    digest: str
    method: str
    rank: int | None
    base: BaseIdentity
    created: str
    author: str = ""
    message: str = ""
    origin: str = "added"  # added | merged | trained | pulled | rebuilt
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    description: str = ""  # of the adapter, all its versions

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.number}" if self.number else self.name

    def __repr__(self) -> str:
        rank = f" rank {self.rank}" if self.rank else ""
        base = f"{self.base.name or '?'} ({self.base.status})"
        return f"<Version {self.ref} {self.digest[:19]} {self.method}{rank}, base {base}>"

    def _repr_html_(self) -> str:
        """One table, for notebooks."""
        from html import escape

        shown = {
            "version": self.ref,
            "digest": self.digest,
            "method": f"{self.method}, rank {self.rank}" if self.rank else self.method,
            "base": f"{self.base.name or '?'} ({self.base.status})",
            "created": self.created,
            "message": self.message,
            "aliases": " ".join(self.aliases),
            "tags": " ".join(self.tags),
        } | {key: f"{value:g}" for key, value in self.metrics.items()}
        rows = "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>"
            for key, value in shown.items()
            if value
        )
        return f"<table>{rows}</table>"

    def to_json(self) -> dict[str, Any]:
        """What every `--json` prints for a version."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "number"}
        return (
            {"ref": self.ref, "version": self.number}
            | fields
            | {
                "base": self.base.to_json(),
                "aliases": list(self.aliases),
                "tags": list(self.tags),
                "metrics": dict(self.metrics),
            }
        )


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move of a movable name; `old` or `new` is None when the alias was made or dropped.

    A `rollback` goes back along the history; the moves it takes back are `undone`.
    """

    alias: str
    old: int | None
    new: int | None
    when: str
    author: str = ""
    rollback: bool = False
    undone: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """A version's copy somewhere else: the place's URL, its number there and its digest."""

    place: str
    number: int
    digest: str
    when: str = ""


# ---------------------------------------------------------------- places


@dataclass(frozen=True, slots=True)
class PlacedVersion:
    """A version in a place: its number there, and the manifest in its `adaptkit.json`.

    What has no number has 0. `revision` is the place's own name for this state, such as a commit.
    What was pushed without becoming the `latest` of its place is not what the bare name means there.
    """

    number: int
    manifest: Manifest
    name: str = ""
    message: str = ""
    author: str = ""
    revision: str = field(default="", compare=False)
    latest: bool = True

    @property
    def described(self) -> bool:
        """Whether adaptkit made it, so that its manifest describes it; else it is any folder."""
        return bool(self.manifest.method)

    def to_json(self) -> dict[str, Any]:
        """The whole `adaptkit.json` of a placed version."""
        names = ("name", "number", "message", "author")
        table = self.manifest.to_json() | {name: getattr(self, name) for name in names}
        return table if self.latest else table | {"latest": False}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlacedVersion:
        """Read an `adaptkit.json`; raises as `Manifest.from_json` does."""
        from adaptkit.types.schema import check_placed

        check_placed(data)
        number = data["number"]
        name, message, author = (data.get(key, "") for key in ("name", "message", "author"))
        latest = data.get("latest", True)
        return cls(number, Manifest.from_json(data), name, message, author, latest=latest)


def latest_of(placed: Iterable[PlacedVersion]) -> PlacedVersion | None:
    """What a bare name means in a place: the highest version that was pushed as latest."""
    found = sorted(placed, key=lambda one: one.number)
    return next((one for one in reversed(found) if one.latest), found[-1] if found else None)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a push did: `naval@3 → …@7`.

    `sent` bytes crossed, `unchanged` when the digest was there already; `note` says what the
    place does not promise, where it promises less than others do.
    """

    place: str
    number: int
    digest: str
    sent: int
    unchanged: bool = False
    state: str = "published"  # published | proposed; what is proposed has the number 0
    note: str = ""
    link: str = ""  # where people can look at it
    card_refreshed: bool = False  # nothing was sent but the page, which had changed
    readme_corrected: bool = False  # a corrected README.md was sent beside a version that is there
    repaired: tuple[str, ...] = ()  # the files of a version there that were damaged and sent again


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened and is committed: its verb, and its subject such as `naval@3`.

    Verbs: added, merged, extracted, pulled, published, proposed, alias-moved, noted, deleted,
    restored, renamed, signed, base-added, base-forgotten, rebuilt, imported, repaired, purged,
    swept, calibrated, distilled, corrected.
    """

    verb: str
    subject: str
    digest: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    when: str = ""
    author: str = ""  # who made the content, where content came in
    actor: str = ""  # who ran the command, here
