"""What a mirroring plans and did: versions of one place in another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from adaptkit.extend import Bundle, StorageBackend
    from adaptkit.types import PlacedVersion

    Review = Callable[["Plan", Bundle, Mapping[str, Path]], None]
    """What is asked before a version, or (with an empty bundle) what is attached to it, is sent."""


@dataclass(frozen=True, slots=True)
class Copied:
    """One version of a place in another: `number` there is `became` here; `sent` bytes crossed."""

    source: str
    number: int
    target: str
    became: int
    digest: str
    sent: int = 0
    unchanged: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "from": self.source,
            "number": self.number,
            "to": self.target,
            "became": self.became,
            "digest": self.digest,
            "sent": self.sent,
            "unchanged": self.unchanged,
        }


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a mirroring did (on a dry run: would do), the aliases copied, and what failed."""

    versions: tuple[Copied, ...]
    aliases: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "versions": [one.to_json() for one in self.versions],
            "aliases": list(self.aliases),
            "failures": list(self.failures),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """One adapter's place and where it is copied to.

    The versions to send, and those that are there.
    """

    source: StorageBackend
    target: StorageBackend
    listed: tuple[PlacedVersion, ...]
    todo: tuple[PlacedVersion, ...]
    numbers: Mapping[str, int]
    broken: tuple[str, ...] = ()
    whole: bool = True  # every version of the place, not one that was asked for

    @property
    def unchanged(self) -> tuple[Copied, ...]:
        """The versions that need not be sent."""
        return tuple(
            self._copied(one, self.numbers[one.manifest.digest], unchanged=True)
            for one in self.listed
            if one.manifest.digest in self.numbers
        )

    @property
    def wished(self) -> tuple[Copied, ...]:
        """The versions to send, with the numbers they get unless another push comes first."""
        highest, found = max(self.numbers.values(), default=0), []
        for one in self.todo:
            highest = max(one.number, highest + 1)
            found.append(self._copied(one, highest))
        return tuple(found)

    def _copied(self, one: PlacedVersion, became: int, **more: Any) -> Copied:
        return Copied(
            self.source.url, one.number, self.target.url, became, one.manifest.digest, **more
        )
