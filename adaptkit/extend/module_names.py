"""Module names as PEFT writes them.

The prefix of its keys, and the patterns of rank_pattern and alpha_pattern.

Public, for methods.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "base_model.model."
"""What every key of a PEFT file begins with, before the name of the module."""


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern names a module, as PEFT matches a key of alpha_pattern.

    A pattern that is no regular expression matches itself only.
    """
    compiled = _compiled(pattern)
    return compiled.match(name) is not None if compiled else pattern == name


def targeted(config: Mapping[str, object], name: str) -> bool:
    """Whether `target_modules` names a module, as PEFT matches it.

    A pattern fits the whole name; of a list, an entry is the name or its end.
    """
    targets = config.get("target_modules")
    if isinstance(targets, str):
        return targets == "all-linear" or (
            not may_never_end(targets) and re.fullmatch(targets, name) is not None
        )
    listed = targets if isinstance(targets, list) else []
    return any(name == one or name.endswith(f".{one}") for one in listed)


def may_never_end(pattern: str) -> bool:
    """Whether matching a pattern may take forever.

    Python's matcher backtracks: a repeated group or many repetitions may never end.
    """
    plain = re.sub(r"\\.", "", pattern)
    return (
        len(pattern) > 1000
        or bool(re.search(r"\)\s*[*+{?]", plain))
        or len(re.findall(r"[*+{]", plain)) > 3
    )


@lru_cache(
    maxsize=1 << 14
)  # a merge of many layers has a pattern for each; re's own cache holds 512
def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        return re.compile(rf"(.*\.)?({pattern})$")
    except re.error:
        return None


def same_name(known: str, wanted: str) -> bool:
    """Whether two dotted names may mean one thing.

    Equal, or equal up to leading parts that one of them lacks.
    """
    return known == wanted or known.endswith(f".{wanted}") or wanted.endswith(f".{known}")


class Names:
    """Dotted names, looked up by what may be meant: a name itself, else those that are `same_name`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = dict.fromkeys(names)
        self._ends: dict[str, list[str]] | None = None

    def called(self, wanted: str) -> list[str]:
        """What a name may mean, in the order of the names."""
        if wanted in self._names:
            return [wanted]
        if self._ends is None:
            self._ends = {}
            for name in self._names:
                for end in _ends(name):
                    self._ends.setdefault(end, []).append(name)
        shorter = [end for end in _ends(wanted) if end in self._names]
        return self._ends.get(wanted, []) + shorter


def _ends(name: str) -> list[str]:
    """A name without its first part, its first two, and so on."""
    parts = name.split(".")
    return [".".join(parts[at:]) for at in range(1, len(parts))]


_WRAPPED = re.compile(r"\.(?:base_layer|modules_to_save|token_adapter)(?=\.)")


def base_name(key: str) -> str:
    """The tensor of the base that a key of an adapter's file means, without what PEFT wraps layers in."""
    return _WRAPPED.sub("", key.removeprefix(PREFIX))
