"""What people write on the command line and in config.toml.

Sizes (`20 GB`), ages (`30d`), conditions (`accuracy>=0.9`).
"""

from __future__ import annotations

import math
import re

from adaptkit.errors import AdaptkitError, BadReference
from adaptkit.types.search import CONDITION_OPS, Condition

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*")
_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGE = re.compile(r"\s*([0-9]{1,6}(?:\.[0-9]+)?)\s*([smhdw]?)\s*")
_CONDITION = re.compile(rf"\s*([^\s<>=!]+)\s*({'|'.join(CONDITION_OPS)})\s*(\S+)\s*")


def parse_size(text: str, what: str) -> int:
    """Bytes, from an option such as `--memory`, or from what `config.toml` says of the quota of `what`."""
    found = _SIZE.fullmatch(text)
    if found is None or found[2].lower() not in _UNITS:
        option = what.startswith("--")
        raise AdaptkitError(
            f"{what if option else f'the quota of {what}'} is '{text}'",
            why="it is a number and a unit",
            fix=f"for example {what} 20GB"
            if option
            else f'for example {what} = "20 GB" below [quotas] in config.toml',
        )
    return int(float(found[1]) * _UNITS[found[2].lower()])


def parse_age(text: str, option: str) -> float:
    """Seconds, from an age such as `24h` or `30d`."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise BadReference(
            f"{option} is '{text}'",
            why="an age is a number and s, m, h, d or w",
            fix=f"for example {option} 30d",
        )
    return float(found[1]) * _AGES[found[2] or "s"]


def parse_condition(text: str) -> Condition:
    """One condition; `BadReference` shows how one is written."""
    found = _CONDITION.fullmatch(text)
    try:
        value = float(found[3]) if found else math.nan
    except ValueError:
        value = math.nan
    if found is None or math.isnan(value):
        raise BadReference(
            f"'{text}' is not a condition",
            why="it is a name, one of >= <= > < = != and a number",
            fix="for example accuracy>=0.9",
        )
    return Condition(found[1], found[2], value)


def parse_rank(text: str) -> Condition:
    """A condition on the rank: `8` means exactly that; `>=8` and the like are allowed too."""
    try:
        return parse_condition(f"rank={text}" if text[:1].isdigit() else f"rank{text}")
    except BadReference as error:
        raise BadReference(
            f"'{text}' is not a condition on the rank",
            why="it is a number, or one of >= <= > < = != and a number",
            fix="for example 8, or '>=8'",
        ) from error
