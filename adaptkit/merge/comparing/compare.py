"""What adapters have to do with each other.

Norms, spectra, cosines and agreement of signs, and what a rank would cost.

All of it comes from the factors, O((m+n)R²) a module; nothing is written out but a sample of
entries for the signs.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from adaptkit.algebra.lowrank import add, dense_svd, matrix, norm, work
from adaptkit.algebra.stacked import relations, singular_values
from adaptkit.errors import Unmergeable
from adaptkit.extend import Dense, LowRank
from adaptkit.merge.comparing.comparison import NOT_AT_ALL, Comparison
from adaptkit.merge.comparing.measures import Pair, Spectrum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from adaptkit.adapters.opened import OpenAdapter
    from adaptkit.extend import Array, Delta, Module

_SAMPLE = (
    96  # rows and columns sampled for all: 9,216 signs are within 0.01 of the share they estimate
)
RANKS = (1, 2, 4, 8, 16, 32, 64, 128)


def compare(
    sources: Sequence[OpenAdapter],
    weights: Sequence[float],
    *,
    done: Callable[[int], None] = lambda count: None,
) -> Comparison:
    """Look at adapters side by side.

    `weights` are those of the sum whose truncation is estimated; `done` is called once for each
    module of each adapter.
    """
    deltas = [
        {module.key: (module, _delta(source, module)) for module in _modules(source)}
        for source in sources
    ]
    labels = [source.label for source in sources]
    _check_shapes(labels, deltas)
    adapters = tuple(
        _spectrum(label, found, done) for label, found in zip(labels, deltas, strict=True)
    )
    pairs = tuple(
        _pair(labels[i], labels[j], deltas[i], deltas[j])
        for i, j in itertools.combinations(range(len(sources)), 2)
    )
    losses, whole = _truncation(deltas, weights)
    advice, reason = _advise(pairs, adapters, losses, whole)
    warnings = tuple(text for pair in pairs if (text := _entangled(pair)))
    return Comparison(adapters, pairs, losses, whole, advice, reason, warnings)


def _check_shapes(
    labels: Sequence[str], deltas: Sequence[Mapping[str, tuple[Module, LowRank | Dense]]]
) -> None:
    seen: dict[str, tuple[str, Module]] = {}
    for label, found in zip(labels, deltas, strict=True):
        for key, (module, _) in found.items():
            first, other = seen.setdefault(key, (label, module))
            if other.shape != module.shape:
                raise Unmergeable(
                    f"cannot compare {first} and {label}",
                    why=f"'{key}' is {list(other.shape)} in {first} and {list(module.shape)} in {label}: "
                    "they are for different models",
                )


def _modules(source: OpenAdapter) -> tuple[Module, ...]:
    if reason := source.method.unmergeable(source.adapter):
        raise Unmergeable(f"cannot compare {source.label}", why=reason)
    if (needs := source.method.needs(source.adapter)) != "nothing":
        raise Unmergeable(
            f"cannot compare {source.label}",
            why=f"its update depends on the base's {needs}",
            fix="convert it first: adaptkit convert REF --base DIR --rank 64 --name NAME",
        )
    return source.method.modules(source.adapter)


def _delta(source: OpenAdapter, module: Module) -> Delta:
    return source.method.delta(source.adapter, module)


def _spectrum(
    label: str, found: Mapping[str, tuple[Module, Delta]], done: Callable[[int], None]
) -> Spectrum:
    values = dict(zip(found, singular_values([delta for _, delta in found.values()]), strict=True))
    done(len(found))
    sizes = {key: float(np.sum(v**2)) for key, v in values.items()}
    total = math.fsum(sizes.values())
    needed = max((_rank_for(v, 0.9) for v in values.values()), default=0)
    return Spectrum(
        label,
        math.sqrt(total),
        max(module.rank for module, _ in found.values()),
        needed,
        {key: size / total if total else 0.0 for key, size in sizes.items()},
        {key: tuple(float(x) for x in v) for key, v in values.items()},
    )


def _rank_for(values: Array, energy: float) -> int:
    """The smallest rank with that share of Σσ²."""
    sums = np.cumsum(values**2)
    return (
        int(np.searchsorted(sums, energy * sums[-1] * (1 - 1e-12)) + 1)
        if sums.size and sums[-1]
        else 0
    )


def _pair(
    one: str,
    other: str,
    first: Mapping[str, tuple[Module, Delta]],
    second: Mapping[str, tuple[Module, Delta]],
) -> Pair:
    shared = sorted(first.keys() & second.keys())
    cosines, signs = {}, {}
    inner, weight, agreeing = 0.0, 0.0, 0.0
    low = {
        key: (a, b)
        for key in shared
        if isinstance(a := first[key][1], LowRank) and isinstance(b := second[key][1], LowRank)
    }
    related = dict(zip(low, relations(list(low.values())), strict=True))
    overlaps = []
    for key in shared:
        (module, a), (_, b) = first[key], second[key]
        if key in related:
            found = related[key]
            product, sizes = found.inner, math.prod(found.norms)
            chances = (r / n for r, n in zip(found.ranks, reversed(module.shape), strict=True))
            overlaps.append((*found.overlaps, *chances))
        else:
            product, sizes = _inner(a, b), norm(a) * norm(b)
            overlaps.append(_overlaps(a, b))
        inner += product
        cosines[key] = product / sizes if sizes else 0.0
        signs[key] = _same_sign(a, b)
        weight += math.prod(module.shape)
        agreeing += signs[key] * math.prod(module.shape)
    sizes = math.sqrt(_energy(first) * _energy(second))
    means = [math.fsum(column) / len(shared) for column in zip(*overlaps, strict=True)]
    return Pair(
        one,
        other,
        inner / sizes if sizes else 0.0,
        agreeing / weight if weight else 0.0,
        len(shared),
        cosines,
        signs,
        *means,
    )


def _overlaps(a: Delta, b: Delta) -> tuple[float, float, float, float]:
    """How far the rows and the columns of two updates span the same space, and how far random ones would."""
    found, by_chance = [], []
    for one, other in zip(_spaces(a), _spaces(b), strict=True):
        smaller, larger = sorted((len(one), len(other)))
        found.append(float(np.sum((one @ other.T) ** 2)) / smaller if smaller else 0.0)
        by_chance.append(larger / one.shape[1])
    return found[0], found[1], by_chance[0], by_chance[1]


def _spaces(delta: Delta) -> tuple[Array, Array]:
    """Orthonormal rows that span the row space and the column space of an update."""
    if isinstance(delta, Dense):
        whole = dense_svd(delta)
        kept = whole.numerical_rank()
        return whole.Vt[:kept], whole.U.T[:kept]
    return _orthonormal(work(delta.A)), _orthonormal(work(delta.B).T)


def _orthonormal(rows: Array) -> Array:
    """From the small Gram matrix; what is below 1e-5 of the largest does not count."""
    values, vectors = np.linalg.eigh(rows @ rows.T)
    kept = values > (values[-1] * 1e-10 if values.size else 0.0)
    basis: Array = (vectors[:, kept] / np.sqrt(values[kept])).T @ rows
    return basis


def _entangled(pair: Pair) -> str:
    """What to expect of two updates that read the same inputs and do different things with them."""
    if pair.row_overlap < max(0.25, 3 * pair.row_overlap_by_chance) or pair.cosine > 0.5:
        return ""
    return (
        f"{pair.one} and {pair.other} read the same inputs (row overlap {pair.row_overlap:.2f}, by chance "
        f"{pair.row_overlap_by_chance:.2f}), as adapters trained from one seed do: merges with fixed weights are likely "
        "to lose a skill. Calibrate both and merge with --strategy regmean, then distil"
    )


def _energy(found: Mapping[str, tuple[Module, Delta]]) -> float:
    return math.fsum(norm(delta) ** 2 for _, delta in found.values())


def _inner(a: Delta, b: Delta) -> float:
    """⟨D₁, D₂⟩ from small products."""
    if isinstance(a, Dense) or isinstance(b, Dense):
        return float(np.vdot(matrix(a), matrix(b)))
    left = (work(a.B) * a.scale).T @ (work(b.B) * b.scale)
    return float(np.sum(left * (work(a.A) @ work(b.A).T)))


def _same_sign(a: Delta, b: Delta) -> float:
    """The share of entries, neither zero, with equal signs, on a sample of rows and columns."""
    one, other = _sampled(a), _sampled(b)
    both = (one != 0) & (other != 0)
    return float(np.mean((one > 0)[both] == (other > 0)[both])) if both.any() else 0.0


@cache
def _places(size: int) -> Array:
    return np.unique(np.linspace(0, size - 1, min(size, _SAMPLE)).astype(int))


def _sampled(delta: Delta) -> Array:
    shape = delta.W.shape if isinstance(delta, Dense) else (delta.B.shape[0], delta.A.shape[1])
    rows, columns = map(_places, shape)
    if isinstance(delta, Dense):
        written: Array = work(delta.W)[np.ix_(rows, columns)]
        return written
    entries: Array = (work(delta.B)[rows] * delta.scale) @ work(delta.A)[:, columns]
    return entries


def _truncation(
    deltas: Sequence[Mapping[str, tuple[Module, Delta]]], weights: Sequence[float]
) -> tuple[dict[int, float], int]:
    """The relative loss of the exact sum at each rank, and the rank at which there is none."""
    parts: dict[str, list[tuple[Delta, float]]] = defaultdict(list)
    for found, weight in zip(deltas, weights, strict=True):
        for key, (_, delta) in found.items():
            parts[key].append((delta, weight))
    values = singular_values(
        [add([d for d, _ in terms], [w for _, w in terms]) for terms in parts.values()]
    )
    total = math.fsum(float(np.sum(v**2)) for v in values)
    whole = max(int(np.count_nonzero(v > v[0] * 1e-12)) if v.size and v[0] else 0 for v in values)
    losses = {
        rank: math.sqrt(math.fsum(float(np.sum(v[rank:] ** 2)) for v in values) / total)
        if total
        else 0.0
        for rank in (*(r for r in RANKS if r < whole), whole)
    }
    return losses, whole


def _advise(
    pairs: Sequence[Pair], adapters: Sequence[Spectrum], losses: Mapping[int, float], whole: int
) -> tuple[str, str]:
    """What to try first, and why: a rule of thumb."""
    small = min((rank for rank, loss in losses.items() if loss <= 0.05), default=whole)
    rank = f" --rank {small}" if small < whole else ""
    if not pairs:
        return f"--strategy linear{rank}", f"one adapter alone; rank {small} keeps 95 % of it"
    if not any(pair.shared_modules for pair in pairs):
        return NOT_AT_ALL, "they share no module; --disjoint puts them side by side"
    lowest, highest = min(p.cosine for p in pairs), max(p.cosine for p in pairs)
    sizes = [a.norm for a in adapters if a.norm]
    measured = (
        f"cosines from {lowest:.2f} to {highest:.2f}" if len(pairs) > 1 else f"cosine {lowest:.2f}"
    )
    if sizes and max(sizes) > 4 * min(sizes):
        measured += (
            f"; the largest is {max(sizes) / min(sizes):.1f} times the smallest, so weigh it down"
        )
    if lowest < -0.1:
        return (
            f"--strategy ties --space knots{rank}",
            f"{measured}: they pull in opposite directions, so elect signs",
        )
    if highest > 0.5:
        return (
            f"--strategy linear --normalize{rank}",
            f"{measured}: they are much alike, so take the mean",
        )
    return (
        f"--strategy linear{rank}",
        f"{measured}: they hardly touch each other, so their sum keeps both",
    )
