"""What became of a plugin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.plugin.entry_points import EntryPoint


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """What became of one plugin: `status` is loaded, failed or disabled; `reason` says what is wrong with it."""

    plugin: str
    distribution: str
    version: str
    status: str
    registered: Mapping[str, Sequence[str]] = field(default_factory=dict)
    reason: str = ""


@dataclass(slots=True)
class PluginState:
    """One plugin while the program runs."""

    entry: EntryPoint
    status: str = "waiting"  # then loaded, failed or disabled
    registered: dict[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
