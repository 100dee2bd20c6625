"""`model: auto`: which adapter a prompt is for, without training.

A prompt is compared with the data that each adapter was calibrated on. The registry keeps, beside a version, the
second moments of what went into its layers on its own data (`adaptkit calibrate`; push and pull take them
along). The base reads the prompt once, and each adapter is scored by how likely the prompt's inputs are under
a normal distribution with its moments: the mean over tokens and layers, per input dimension. Only adapters
with moments are chosen from. An adapter fits a prompt that is near enough to its data: the mean square of the inputs
in the scale of its moments, the geometric mean over layers. Where none fits, the base answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptkit.errors import Refused
from adaptkit.extend.module_names import same_name
from adaptkit.serving.composition import BASE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adaptkit.extend import Array, Moment
    from adaptkit.merge.moments import Moments

RIDGE = 0.01
"""Added to a moment, as a share of its mean diagonal: directions that were never seen are unlikely, not impossible."""
WITHIN = 7.5
"""The distance up to which an adapter fits a prompt; measured by `benchmarks/routing.py`."""
MOST = 64
"""Adapters that one request chooses among."""
DIGITS = 4


@dataclass(frozen=True, slots=True)
class Route:
    """What was chosen for a request, by which method, with the share of each adapter, the largest first.

    `distances` is how far the prompt is from the data of each, and empty where the method knows none.
    """

    method: str
    chosen: str
    scores: Mapping[str, float]
    distances: Mapping[str, float] = field(default_factory=dict)

    def header(self) -> str:
        """For `x-adaptkit-route`: the method, what `auto` chose where that is not the first, each version's share."""
        shares = ", ".join(
            f"{version}={share:.{DIGITS}f}" for version, share in self.scores.items()
        )
        first = self.method != "auto" or self.chosen == next(iter(self.scores))
        return "; ".join((self.method, *(() if first else (self.chosen,)), shares))

    def to_json(self) -> dict[str, Any]:
        def rounded(numbers: Mapping[str, float]) -> dict[str, float]:
            return {version: round(number, DIGITS) for version, number in numbers.items()}

        shown = {"method": self.method, "chosen": self.chosen, "scores": rounded(self.scores)}
        return shown | ({"distances": rounded(self.distances)} if self.distances else {})


def route_of(
    method: str,
    chosen: str,
    scores: Mapping[str, float],
    distances: Mapping[str, float] | None = None,
) -> Route:
    """A route with its scores sorted, the largest first and equal ones by name."""
    ordered = dict(sorted(scores.items(), key=lambda one: (-one[1], one[0])))
    return Route(
        method, chosen, ordered, {name: distances[name] for name in ordered} if distances else {}
    )


@dataclass(frozen=True, slots=True)
class Fit:
    """How likely inputs are, as a log without its constant, and how far: the mean square in the moment's scale."""

    likely: float
    distance: float


class Density:
    """N(0, G + ridge): how likely inputs of one module are, by the moment G of one adapter's data."""

    def __init__(self, moment: Moment) -> None:
        factor = moment.factor.astype(np.float64)
        whole = moment.diagonal + np.einsum("ij,ij->i", factor, factor)
        diagonal = moment.diagonal + max(RIDGE * float(whole.mean()), 1e-12)
        self._root = np.sqrt(diagonal)
        scaled = factor / self._root[:, None]
        core = np.linalg.cholesky(np.eye(factor.shape[1]) + scaled.T @ scaled)
        # The inverse's form is |x|² − |half·x|², for x divided by the root.
        self._half = np.linalg.solve(core, scaled.T)
        self._log = float(np.log(diagonal).sum() + 2 * np.log(np.diag(core)).sum())

    def of(self, inputs: Array) -> Fit:
        """How inputs (tokens × n) fit: the mean over tokens, per dimension."""
        white = inputs / self._root
        squares = np.einsum("ij,ij->i", white, white) - ((white @ self._half.T) ** 2).sum(1)
        mean, size = float(squares.mean()), int(inputs.shape[1])
        return Fit(-0.5 * (mean + self._log) / size, max(mean, 0.0) / size)


class Profile:
    """The densities of one adapter's data, by module; those of modules that share a moment are one."""

    def __init__(self, densities: Mapping[str, Density]) -> None:
        self.densities = densities

    @classmethod
    def of(cls, moments: Moments, sizes: Mapping[str, int]) -> Profile:
        """Read the moments of an adapter in the layers of a live model: `sizes` has their numbers of inputs."""
        made: dict[str, Density] = {}
        found: dict[str, Density] = {}
        for name, shared in moments.about.modules.items():
            live = next((one for one in sizes if one == name or same_name(one, name)), None)
            if live is None:
                continue
            if shared not in made:
                moment = moments.of(name, sizes[live])
                if moment is None:
                    continue
                made[shared] = Density(moment)
            found[live] = made[shared]
        return cls(found)


def choose(
    profiles: Mapping[str, Profile],
    inputs: Mapping[str, Array],
    temperature: float,
    within: float = WITHIN,
) -> Route:
    """The likeliest adapter that fits, or the base, by the prompt's inputs in the layers that all profiles have.

    `Refused` when there is no such layer.
    """
    common = sorted(set(inputs).intersection(*(one.densities for one in profiles.values())))
    if not common:
        raise Refused(
            "cannot choose an adapter for this prompt",
            why=f"{' and '.join(sorted(profiles))} were not measured in one and the same layer",
            fix="calibrate them on the same layers, or ask for arrow(…)",
        )
    likely, distances = {}, {}
    for version, profile in profiles.items():
        fits = [profile.densities[name].of(inputs[name]) for name in common]
        likely[version] = math.fsum(fit.likely for fit in fits) / len(fits)
        logs = math.fsum(math.log(max(fit.distance, 1e-12)) for fit in fits)
        distances[version] = math.exp(logs / len(fits))
    fitting = [version for version in sorted(likely) if distances[version] <= within]
    chosen = max(fitting, key=likely.__getitem__, default=BASE)
    return route_of("auto", chosen, softmax(likely, temperature), distances)


def softmax(scores: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Scores as shares that add up to 1."""
    best = max(scores.values())
    raised = {name: math.exp((score - best) / temperature) for name, score in scores.items()}
    total = math.fsum(raised.values())
    return {name: value / total for name, value in raised.items()}


def unmeasured(labels: Sequence[str]) -> Refused:
    """The error for a request to choose where nothing was measured."""
    named = ", ".join(labels[:3]) or "no adapter of this base is registered"
    return Refused(
        "cannot choose an adapter for this prompt",
        why=f"it compares prompts with what adapters were calibrated on, and none was: {named}",
        fix=f"adaptkit calibrate {labels[0] if labels else 'naval'} --base DIR --data FILE, or ask for arrow(…)",
    )
