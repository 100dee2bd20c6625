"""What a search may choose: strategy, space, rank, shares such as the density, and a weight for each adapter.

Notable choices:
- a parameter of a strategy is searched when it is a share (its range is within 0…1) or has named choices; others
  keep their defaults, or the value that is given
- names of parameters carry the strategy's, so that `ties.density` and `della.density` are learned apart
- weights are multiples of 0.01: a recipe that a person can read, and the same number wherever it is stored
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

from adaptkit.errors import BadRecipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from adaptkit.extend import MergeStrategy

LEAST_SHARE = 0.05
"""A density of 0 keeps nothing: shares are searched from here on."""


class Chooser(Protocol):
    """What an Optuna trial is, as far as a search needs it."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None
    ) -> float: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to merge; `weights` are in the order of the adapters."""

    strategy: str
    space: str
    weights: tuple[float, ...]
    rank: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The choices beside the weights, on one line."""
        parts = [self.space, "whole" if self.rank is None else f"rank {self.rank}"]
        return ", ".join(parts + [f"{name} {_short(value)}" for name, value in self.params.items()])

    def to_json(self) -> dict[str, Any]:
        return {
            "strategy": self.strategy,
            "space": self.space,
            "weights": list(self.weights),
            "rank": self.rank,
            "params": dict(self.params),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Candidate:
        return cls(
            data["strategy"], data["space"], tuple(data["weights"]), data["rank"], data["params"]
        )


@dataclass(frozen=True, slots=True)
class Option:
    """One strategy, with the spaces it is tried in and the values of its parameters (one value: fixed)."""

    strategy: str
    spaces: tuple[str, ...]
    takes_rank: bool
    shares: Mapping[str, tuple[float, float]]
    choices: Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Everything that may be chosen; `labels` are the adapters."""

    labels: tuple[str, ...]
    options: tuple[Option, ...]
    ranks: tuple[int, ...]
    weights: tuple[float, float] = (0.2, 1.2)

    def suggest(self, trial: Chooser) -> Candidate:
        """The candidate that a trial chooses."""
        named = {option.strategy: option for option in self.options}
        option = named[trial.suggest_categorical("strategy", list(named))]
        name = option.strategy
        space = trial.suggest_categorical(f"{name}.space", list(option.spaces))
        rank = trial.suggest_categorical("rank", list(self.ranks)) if option.takes_rank else None
        params = {
            key: round(trial.suggest_float(f"{name}.{key}", low, high, step=0.01), 2)
            for key, (low, high) in option.shares.items()
        }
        params |= {
            key: trial.suggest_categorical(f"{name}.{key}", list(values))
            for key, values in option.choices.items()
        }
        low, high = self.weights
        weights = [
            round(trial.suggest_float(f"weight.{label}", low, high, step=0.01), 2)
            for label in self.labels
        ]
        return Candidate(name, space, tuple(weights), rank, params)

    def starts(self) -> Iterator[dict[str, Any]]:
        """What is tried first: each strategy at full rank with equal weights, which a search must beat."""
        low, high = self.weights
        equal = round(min(high, max(low, 0.8)), 2)
        for option in self.options:
            yield {
                "strategy": option.strategy,
                f"{option.strategy}.space": option.spaces[0],
                **({"rank": max(self.ranks)} if option.takes_rank else {}),
                **{f"weight.{label}": equal for label in self.labels},
            }

    def to_json(self) -> dict[str, Any]:
        """What a study is asked: two searches with equal ones may share a study."""
        return {
            "labels": list(self.labels),
            "weights": list(self.weights),
            "ranks": list(self.ranks),
            "options": [
                [
                    one.strategy,
                    list(one.spaces),
                    {k: list(v) for k, v in one.shares.items()},
                    {k: list(v) for k, v in one.choices.items()},
                ]
                for one in self.options
            ],
        }


def option_of(
    strategy: MergeStrategy[Any], spaces: Sequence[str], params: Mapping[str, str]
) -> Option:
    """What is searched of one strategy; `params` fixes a parameter (VALUE) or narrows it (LOW:HIGH)."""
    known = {one.name: one for one in fields(strategy.params)}
    # written out, an update takes m×n numbers: only where asked for, or where there is no other way
    every: list[str] = list(strategy.spaces)
    natural = [one for one in every if one != "dense"] or every
    asked = [one for one in spaces if one in strategy.spaces]
    shares: dict[str, tuple[float, float]] = {}
    choices: dict[str, tuple[Any, ...]] = {}
    for name, one in known.items():
        if name in params and ":" not in params[name]:
            choices[name] = (_number(params[name]),)
        elif name in params:
            shares[name] = parse_range(params[name], f"--param {name}")
        elif "choices" in one.metadata:
            choices[name] = tuple(one.metadata["choices"])
        elif (found := _share(one.metadata.get("range"))) is not None:
            shares[name] = found
    return Option(
        strategy.name, tuple(asked or natural), strategy.rank_rule != "whole", shares, choices
    )


def parse_range(text: str, option: str) -> tuple[float, float]:
    """`LOW:HIGH` in hundredths; `BadRecipe` where it is something else."""
    low, _, high = text.partition(":")
    try:
        found = round(float(low), 2), round(float(high), 2)
    except ValueError:
        found = (math.nan, math.nan)
    if not (math.isfinite(found[0]) and math.isfinite(found[1]) and found[0] < found[1]):
        raise BadRecipe(
            f"{option} is '{text}'",
            why="it is a range LOW:HIGH",
            fix=f"{option.split(maxsplit=1)[0]} 0.2:1",
        )
    return found


def _share(given: tuple[float, float] | None) -> tuple[float, float] | None:
    if given is None or given[0] < 0 or given[1] > 1 or given[1] <= LEAST_SHARE:
        return None
    return LEAST_SHARE, math.floor(given[1] * 100) / 100


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
