"""Trim, drop, elect, merge what agrees: the algebra of the TIES, DARE, Breadcrumbs and DELLA papers. Public.

Notable choices:
- a share of n entries is an exact count, worked out in decimals as it was typed; entries of equal
  magnitude are taken by position (row by row, the first counts as the larger), so a mask is a function of the tensor
- what is dropped at random comes from the generator handed in, and each entry kept is divided by the
  probability of keeping it, so that the expectation is the tensor
- a sum that vanishes to rounding elects no sign, whatever the order in which it was added up
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from adaptkit.errors import BadRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.extend import Array

Election = Literal["total", "frequency"]
"""Whose sign is elected: of the sum of the terms, or of the sum of their signs."""
Division = Literal["count", "weight", "none"]
"""What the sum of the agreeing terms is divided by: how many agree, the sum of their weights, or nothing."""


# ---------------------------------------------------------------- thinning one tensor


def trim(tensor: Array, density: float) -> Array:
    """The ⌈density·n⌉ entries of largest magnitude, others zero (TIES, https://arxiv.org/abs/2306.01708)."""
    _check_density(density)
    return _masked(tensor, largest(tensor, math.ceil(_share(density, tensor.size))))


def breadcrumbs(tensor: Array, beta: float, gamma: float) -> Array:
    """Without the ⌊gamma·n⌋ largest and ⌊beta·n⌋ smallest magnitudes (https://arxiv.org/abs/2312.06795)."""
    if not (beta >= 0 and gamma >= 0 and beta + gamma < 1):
        raise BadRecipe(
            f"beta={beta} and gamma={gamma} leave nothing",
            why="they are the shares of the smallest and of "
            "the largest entries that are dropped, and must add up to less than 1",
            fix="for example --param beta=0.85 --param gamma=0.01",
        )
    small, large = (math.floor(_share(part, tensor.size)) for part in (beta, gamma))
    return _masked(tensor, largest(tensor, tensor.size - small) & ~largest(tensor, large))


def largest(tensor: Array, count: int) -> Array:
    """The mask of exactly `count` entries of largest magnitude, the first of equal ones before the others."""
    size = tensor.size
    if count <= 0 or count >= size:
        return np.full(tensor.shape, count > 0)
    magnitude = np.abs(tensor).ravel()
    threshold = np.partition(magnitude, size - count)[size - count]
    mask: Array = magnitude > threshold
    equal = np.flatnonzero(magnitude == threshold)
    mask[equal[: count - int(np.count_nonzero(mask))]] = True
    return mask.reshape(tensor.shape)


def drop(tensor: Array, density: float, rng: np.random.Generator, *, rescale: bool = True) -> Array:
    """Each entry kept with probability `density`, then divided by it (DARE, https://arxiv.org/abs/2311.03099)."""
    _check_density(density)
    if density == 1:
        return tensor.copy()
    kept = _masked(tensor, np.asarray(rng.random(tensor.shape) < density))
    return kept / density if rescale else kept


def magprune(tensor: Array, density: float, epsilon: float, rng: np.random.Generator) -> Array:
    """Each entry kept with its own `keep_probabilities` p, then divided by p (DELLA, https://arxiv.org/abs/2406.11617).

    At density 1 nothing is dropped, whatever the window.
    """
    _check_density(density)
    if density == 1:
        return tensor.copy()
    chances = keep_probabilities(tensor, density, epsilon)
    return _masked(tensor, rng.random(tensor.shape) < chances) / chances


def keep_probabilities(tensor: Array, density: float, epsilon: float) -> Array:
    """MAGPRUNE's chances: in each row linear in the rank by magnitude, from density−ε/2 to density+ε/2.

    Their mean over a row is `density`; of equal magnitudes the first has the higher rank.
    """
    if not (epsilon >= 0 and density - epsilon / 2 > 0 and density + epsilon / 2 <= 1):
        raise BadRecipe(
            f"epsilon={epsilon} is too wide for density={density}",
            why="density ± epsilon/2 are "
            "probabilities of keeping an entry: the lower must be above 0, the upper at most 1",
            fix=f"--param epsilon={float(2 * min(density, 1 - density) * 0.9):.3g}, or less",
        )
    length = tensor.shape[-1]
    order = np.argsort(-np.abs(tensor), axis=-1, kind="stable")
    # Largest first; a row of one entry is in the middle of the window.
    window = np.linspace(0.5, -0.5, length) if length > 1 else np.zeros(length)
    chances = np.empty(tensor.shape)
    np.put_along_axis(
        chances, order, np.broadcast_to(density + epsilon * window, tensor.shape), axis=-1
    )
    return chances


def rescale_l1(thinned: Array, tensor: Array) -> Array:
    """`thinned`, scaled so that its entries' magnitudes add up to those of `tensor`; zeros stay zeros."""
    size = float(np.abs(thinned).sum())
    return thinned * (float(np.abs(tensor).sum()) / size) if size else thinned.copy()


# ---------------------------------------------------------------- merging several


def elect(terms: Sequence[Array], by: Election = "total", tie: Literal[-1, 0, 1] = 0) -> Array:
    """The sign (−1, 0 or 1) of each entry that has the greater total, or the greater number; `tie` where neither has.

    Hand over weighted updates for a weighted election, the bare updates for an unweighted one.
    """
    votes = [np.sign(term) for term in terms] if by == "frequency" else terms
    total, size = votes[0].copy(), np.abs(votes[0])
    for vote in votes[1:]:
        total += vote
        size += np.abs(vote)
    signs: Array = np.sign(total)
    # Sums in another order differ by less than this: a tie must not depend on it.
    signs[np.abs(total) <= size * (len(terms) * np.finfo(total.dtype).eps)] = tie
    return signs


def disjoint(
    terms: Sequence[Array],
    signs: Array,
    divide: Division = "count",
    weights: Sequence[float] | None = None,
) -> Array:
    """The sum of the weighted terms that have the elected sign, divided by their number, or by their `weights`."""
    merged, divisor, scale = np.zeros_like(terms[0]), np.zeros_like(terms[0]), 0.0
    parts = [1.0] * len(terms) if weights is None or divide == "count" else weights
    for term, part in zip(terms, parts, strict=True):
        agrees = term * signs > 0
        merged += np.where(agrees, term, 0)
        divisor += np.where(agrees, part, 0)
        scale += abs(part)
    if divide == "none":
        return merged
    divisor[np.abs(divisor) <= scale * len(terms) * np.finfo(divisor.dtype).eps] = (
        1  # no term agrees, or the weights cancel
    )
    merged /= divisor
    return merged


def _masked(tensor: Array, mask: Array) -> Array:
    return np.where(mask, tensor, tensor.dtype.type(0))


def _share(part: float, count: int) -> Fraction:
    """Exactly as typed: 0.1 of 30 is 3, where floats give 3.0000000000000004."""
    return Fraction(str(float(part))) * count


def _check_density(density: float) -> None:
    if not 0 < density <= 1:
        raise BadRecipe(
            f"density={density} is no share",
            why="it is how much of each update is kept: above 0, at most 1",
            fix="for example --param density=0.5",
        )
