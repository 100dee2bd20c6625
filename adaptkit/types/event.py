"""An entry of the history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


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
