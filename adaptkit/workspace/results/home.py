"""What operations on a whole workspace return, and on signatures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.extend import Promise


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
