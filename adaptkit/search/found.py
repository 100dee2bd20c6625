"""What a search found: every trial, the Pareto front of skills against size, and the winner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.evaluation.suites import Suite
    from adaptkit.search.candidates import Candidate


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial: the candidate, its figure on each suite and its size in bytes; or why it could not be merged."""

    number: int
    candidate: Candidate
    figures: Mapping[str, float]
    skills: float
    size: int
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.number,
            **self.candidate.to_json(),
            "figures": dict(self.figures),
            "skills": self.skills,
            "bytes": self.size,
            "error": self.error or None,
        }


def skills_of(suites: Sequence[Suite], figures: Mapping[str, float]) -> float:
    """The mean over the suites, 1 at best: a perplexity counts as its inverse."""
    scores = [
        figures[one.name] if one.higher_is_better else 1 / max(1.0, figures[one.name])
        for one in suites
    ]
    return float(f"{sum(scores) / len(scores):.9g}")


def front_of(trials: Sequence[Tried]) -> tuple[Tried, ...]:
    """Those that no other beats in skills without being larger, the smallest first; of equal ones the earliest."""
    front: list[Tried] = []
    for one in sorted(
        (t for t in trials if not t.error), key=lambda t: (t.size, -t.skills, t.number)
    ):
        if not front or one.skills > front[-1].skills:
            front.append(one)
    return tuple(front)


@dataclass(frozen=True, slots=True)
class Found:
    """A finished search."""

    study: str
    storage: str
    labels: tuple[str, ...]
    suites: tuple[str, ...]
    trials: tuple[Tried, ...]

    @property
    def front(self) -> tuple[Tried, ...]:
        return front_of(self.trials)

    @property
    def winner(self) -> Tried:
        """The best skills; of equal ones the smallest, then the earliest."""
        return self.front[-1]

    @property
    def failed(self) -> tuple[Tried, ...]:
        return tuple(one for one in self.trials if one.error)

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "storage": self.storage,
            "adapters": list(self.labels),
            "suites": list(self.suites),
            "front": [one.number for one in self.front],
            "winner": self.winner.number,
            "trials": [one.to_json() for one in self.trials],
        }

    def table(self) -> tuple[Sequence[str], list[list[str]]]:
        """The front, for people: a line a candidate, the smallest first."""
        head = ["trial", "skills", "size", *self.suites, "strategy", *self.labels, "with"]
        rows = [
            [
                str(one.number),
                f"{one.skills:.3f}",
                f"{one.size / 1000:,.0f} kB",
                *(f"{one.figures[name]:.4g}" for name in self.suites),
                one.candidate.strategy,
                *(f"{weight:g}" for weight in one.candidate.weights),
                one.candidate.text,
            ]
            for one in self.front
        ]
        return head, rows
