"""A version in a place: where it was pushed to, and what is found there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptkit.types.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Placement:
    """A version's copy somewhere else: the place's URL, its number there and its digest."""

    place: str
    number: int
    digest: str
    when: str = ""


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
        from adaptkit.types.checks.schema import check_placed

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
