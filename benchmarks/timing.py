"""Paired timings: ours and the peer in turn, in one run, so that a drifting machine cancels in the ratio."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


NO_TARGET = "none"
# pip compiles what it installs; a source tree is compiled at the first run, unless the environment forbids it.
AS_INSTALLED = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Row:
    """One line of the table: the median ratio peer/ours (or ours/peer), pair by pair, with its range."""

    work: str
    peer: str
    ours_s: float
    peer_s: float
    ratio: float
    low: float
    high: float
    target: str
    met: bool
    runs: int


def faster(
    work: str,
    peer: str,
    ours: Callable[[], None],
    theirs: Callable[[], None],
    at_least: float,
    runs: int,
) -> Row:
    """How many times faster ours is."""
    mine, other, ratios = _pairs(ours, theirs, runs)
    ratios = [1 / ratio for ratio in ratios]
    middle = statistics.median(ratios)
    return Row(
        work,
        peer,
        mine,
        other,
        middle,
        min(ratios),
        max(ratios),
        _target("≥", at_least),
        middle >= at_least,
        runs,
    )


def within(
    work: str,
    peer: str,
    ours: Callable[[], None],
    theirs: Callable[[], None],
    at_most: float,
    runs: int,
) -> Row:
    """How many times as long ours takes."""
    mine, other, ratios = _pairs(ours, theirs, runs)
    middle = statistics.median(ratios)
    return Row(
        work,
        peer,
        mine,
        other,
        middle,
        min(ratios),
        max(ratios),
        _target("≤", at_most),
        middle <= at_most,
        runs,
    )


def _target(sign: str, bound: float) -> str:
    return f"{sign} {bound:g}×" if math.isfinite(bound) else NO_TARGET


def command(*arguments: str, **environment: str) -> Callable[[], None]:
    """A whole process, its output thrown away."""

    def run() -> None:
        nowhere = subprocess.DEVNULL
        subprocess.run(
            arguments, check=True, stdout=nowhere, stderr=nowhere, env=AS_INSTALLED | environment
        )

    return run


def _pairs(
    ours: Callable[[], None], theirs: Callable[[], None], runs: int
) -> tuple[float, float, list[float]]:
    ours()  # once unmeasured, so that files are in the page cache
    mine, other = [], []
    for _ in range(runs):
        mine.append(_seconds(ours))
        other.append(_seconds(theirs))
    return (
        statistics.median(mine),
        statistics.median(other),
        [a / b for a, b in zip(mine, other, strict=True)],
    )


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
