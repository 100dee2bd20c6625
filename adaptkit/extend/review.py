"""What is about to happen, as reviewing plugins are shown it, and what they may have against it.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from adaptkit.types import BaseIdentity, Condition, Manifest, Parent, Version


@dataclass(frozen=True, slots=True)
class Merge:
    """About to merge.

    It has the labels, digests and bases of the sources, and the recipe in canonical form.
    """

    sources: tuple[Parent, ...]
    bases: tuple[BaseIdentity, ...]
    recipe: Mapping[str, Any]
    name: str | None


@dataclass(frozen=True, slots=True)
class Reviews:
    """`[review]` in config.toml: which reviews to switch on that are off by default, and which off.

    A review is called what the constant `REVIEW` of its plugin says, else what the plugin is
    called.
    """

    enable: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()

    def on(self, name: str, *, default: bool) -> bool:
        """Whether to make the review of that name; `disable` counts more than `enable`."""
        return name not in self.disable and (default or name in self.enable)


@dataclass(frozen=True, slots=True)
class Publish:
    """About to push a version to a place.

    `paths` maps each file of `manifest` to where its bytes are stored, `attachments` what goes
    beside it, such as a signature's files; only read them.
    """

    version: Version
    manifest: Manifest
    place: str
    paths: Mapping[str, Path] = field(default_factory=dict)
    reviews: Reviews = field(default_factory=Reviews)
    attachments: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delete:
    """About to move versions to the trash."""

    versions: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class MoveAlias:
    """About to point an alias at another version; `new` None drops it.

    `protected` says that the configuration names the alias so, `confirmed` that --yes was given. `metrics` are
    the figures kept on the new version, `gates` what the configuration asks of them for this alias.
    """

    name: str
    alias: str
    old: int | None
    new: int | None
    protected: bool = False
    confirmed: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    gates: tuple[Condition, ...] = ()


Action = Merge | Publish | Delete | MoveAlias


class Severity(StrEnum):
    """A `warn` is shown and recorded; a `refuse` stops the action."""

    WARN = "warn"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Objection:
    """What a reviewing plugin has against an action."""

    text: str
    severity: Severity = Severity.REFUSE
