"""Numbers of the command line that are an amount: NaN is none, and would pass every comparison."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from typing import Any


class Amount(click.FloatRange):
    """A number of at least 0; `inf` is one."""

    def __init__(self) -> None:
        super().__init__(0)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("'nan' is no number.", param, ctx)
        return number
