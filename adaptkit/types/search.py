"""What a search asks of a version's figures."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Condition:
    """What a search asks of a figure: `accuracy >= 0.9`."""

    name: str
    op: str  # one of CONDITION_OPS
    value: float

    def met(self, value: float) -> bool:
        """Whether a figure is as asked."""
        return bool(CONDITION_OPS[self.op](value, self.value))


CONDITION_OPS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
