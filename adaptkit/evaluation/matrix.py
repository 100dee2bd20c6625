"""The matrix of adapters and suites, and what an adapter forgot against a baseline.

Definitions (GEM, arXiv 1706.08840; Chaudhry et al., arXiv 1801.10112): on each suite, change = figure − baseline's;
forgetting = what was lost of it, max(0, −change); backward transfer = the mean change over the old suites, those
that the adapter was not meant to learn. Perplexities are compared by their ratio.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from adaptkit.evaluation.suites import Suite


@dataclass(frozen=True, slots=True)
class Against:
    """One adapter against the baseline."""

    forgetting: Mapping[str, float]
    ratios: Mapping[str, float]
    backward_transfer: float | None


@dataclass(frozen=True, slots=True)
class Matrix:
    """Figures by adapter and suite; `old` are the suites that count for backward transfer."""

    suites: tuple[Suite, ...]
    figures: Mapping[str, Mapping[str, float]]
    baseline: str | None = None
    new: frozenset[str] = field(default_factory=frozenset)

    def against(self, label: str) -> Against | None:
        """What the adapter of that label lost and gained; None without a baseline, and of the baseline itself."""
        if self.baseline is None or label == self.baseline:
            return None
        before, after = self.figures[self.baseline], self.figures[label]
        scored = [s.name for s in self.suites if s.higher_is_better]
        old = [after[name] - before[name] for name in scored if name not in self.new]
        return Against(
            {name: max(0.0, before[name] - after[name]) for name in scored if name not in self.new},
            {s.name: after[s.name] / before[s.name] for s in self.suites if not s.higher_is_better},
            sum(old) / len(old) if old else None,
        )

    def metrics(self, label: str) -> dict[str, float]:
        """What is stored on the version: `naval.exact`, `polite.forgetting`, `backward_transfer`, …."""
        found = {f"{s.name}.{s.score}": self.figures[label][s.name] for s in self.suites}
        against = self.against(label)
        if against is not None:
            found |= {f"{name}.forgetting": value for name, value in against.forgetting.items()}
            found |= {f"{name}.ratio": value for name, value in against.ratios.items()}
            if against.backward_transfer is not None:
                found["backward_transfer"] = against.backward_transfer
        return {name: float(f"{value:.6g}") for name, value in found.items()}

    def to_json(self) -> dict[str, Any]:
        """What `eval --json` prints."""
        return {
            "suites": {
                s.name: {"score": s.score, "rows": s.size, "digest": s.digest} for s in self.suites
            },
            "baseline": self.baseline,
            "adapters": {label: self.metrics(label) for label in self.figures},
        }

    def table(self) -> tuple[Sequence[str], list[list[str]]]:
        """Head and rows for people: a line an adapter, a column a suite, then what was forgotten."""
        head = ["adapter", *(f"{s.name} ({s.score})" for s in self.suites)]
        if self.baseline is not None:
            head += ["backward transfer", "most forgotten"]
        return head, [list(self._row(label)) for label in self.figures]

    def _row(self, label: str) -> Iterator[str]:
        yield label
        for suite in self.suites:
            yield f"{self.figures[label][suite.name]:.4g}"
        if self.baseline is None:
            return
        against = self.against(label)
        if against is None:
            yield from ("baseline", "")
            return
        yield "" if against.backward_transfer is None else f"{against.backward_transfer:+.3f}"
        worst = max(against.forgetting.items(), key=lambda one: one[1], default=("", 0.0))
        yield f"{worst[0]} {worst[1]:.3f}" if worst[1] else "nothing"
