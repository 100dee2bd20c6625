"""`Engine`: runs adapters on a base for serving."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar


class Engine(ABC):
    """Runs adapters on a base for serving. Its contract grows with `adaptkit.serving`."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
