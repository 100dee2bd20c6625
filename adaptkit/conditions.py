"""Conditions on figures, as `list` takes them: `accuracy>=0.9`, `rank=8`."""

from __future__ import annotations

import math
import re

from adaptkit.errors import BadReference
from adaptkit.types import CONDITION_OPS, Condition

_CONDITION = re.compile(rf"\s*([^\s<>=!]+)\s*({'|'.join(CONDITION_OPS)})\s*(\S+)\s*")


def parse_condition(text: str) -> Condition:
    """One condition; `BadReference` shows how one is written."""
    found = _CONDITION.fullmatch(text)
    try:
        value = float(found[3]) if found else math.nan
    except ValueError:
        value = math.nan
    if found is None or math.isnan(value):
        raise BadReference(f"'{text}' is not a condition", why="it is a name, one of >= <= > < = != and a number",
                           fix="for example: adaptkit list --metric 'accuracy>=0.9'")  # fmt: skip
    return Condition(found[1], found[2], value)


def parse_rank(text: str) -> Condition:
    """A condition on the rank: `8` means exactly that, `>=8` and the like stand too."""
    return parse_condition(f"rank={text}" if text[:1].isdigit() else f"rank{text}")
