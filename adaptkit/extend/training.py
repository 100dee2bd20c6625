"""`Trainer`: runs a training job."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar


class Trainer(ABC):
    """Runs a training job. Its contract grows with `adaptkit.training`."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
