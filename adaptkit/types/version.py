"""A version of a named adapter, and the moves of its aliases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.types.base_identity import BaseIdentity


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

    def __hash__(self) -> int:
        """Of what never changes: a version can be the key of a mapping, such as of weights."""
        return hash((self.name, self.number, self.digest))

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
