"""Four views of the same updates."""

from __future__ import annotations

import numpy as np
import pytest

from adaptkit.algebra.spaces import view
from adaptkit.errors import Unmergeable
from adaptkit.extend import Dense, LowRank


def draw(seed, r, m=15, n=11):
    rng = np.random.default_rng(seed)
    return LowRank(rng.standard_normal((m, r)), rng.standard_normal((r, n)), 0.5 + seed)


def full(delta):
    return delta.W if isinstance(delta, Dense) else delta.scale * delta.B @ delta.A


DELTAS = [draw(1, 3), draw(2, 2), draw(3, 4)]
WEIGHTS = [0.7, -0.2, 1.0]


@pytest.mark.parametrize("space", ["core", "knots", "dense"])
def test_a_sum_is_the_same_in_every_space_but_factors(space):
    seen = view(space, DELTAS, WEIGHTS)
    ((tensors, weights),) = seen.groups
    merged = seen.rebuild([sum(w * t for w, t in zip(weights, tensors, strict=True))])
    wanted = sum(w * full(d) for w, d in zip(WEIGHTS, DELTAS, strict=True))
    assert np.abs(full(merged) - wanted).max() < 1e-10


@pytest.mark.parametrize("space", ["core", "knots", "dense"])
def test_each_tensor_rebuilds_its_own_update(space):
    seen = view(space, DELTAS, WEIGHTS)
    for tensor, delta in zip(seen.groups[0][0], DELTAS, strict=True):
        assert np.abs(full(seen.rebuild([tensor])) - full(delta)).max() < 1e-10


@pytest.mark.parametrize("space", ["core", "knots", "dense"])
def test_an_update_written_with_other_factors_is_seen_alike(space):
    rewritten = [LowRank(8 * DELTAS[0].B, DELTAS[0].A / 8, DELTAS[0].scale), *DELTAS[1:]]
    one, two = view(space, DELTAS, WEIGHTS), view(space, rewritten, WEIGHTS)
    # An elementwise strategy, the hardest to fool: keep what all agree on in sign.
    agree = [
        np.where(np.sign(a) == np.sign(b), a, 0)
        for a, b in ((v.groups[0][0][0], v.groups[0][0][1]) for v in (one, two))
    ]
    assert np.abs(full(one.rebuild([agree[0]])) - full(two.rebuild([agree[1]]))).max() < 1e-10


def test_knots_is_the_dense_construction():
    seen = view("knots", DELTAS, WEIGHTS)
    _U, S, Vt = np.linalg.svd(
        np.concatenate([full(d) for d in DELTAS], axis=1), full_matrices=False
    )
    keep = seen.groups[0][0][0].shape[0]
    assert keep == 9
    for i, tensor in enumerate(seen.groups[0][0]):
        wanted = S[:keep, None] * Vt[:keep, 11 * i : 11 * (i + 1)]
        assert np.abs(np.abs(tensor) - np.abs(wanted)).max() < 1e-10


def test_factors_need_one_rank_and_put_the_sign_on_A():
    with pytest.raises(Unmergeable, match=r"the adapters have ranks \[3, 2, 4\]"):
        view("factors", DELTAS, WEIGHTS)
    seen = view("factors", [draw(0, 2), draw(1, 2)], [2.0, -6.0])
    (_, signed), (_, roots) = seen.groups
    assert signed == [1.0, -3.0]
    assert roots == [1.0, 3.0]


@pytest.mark.parametrize("space", ["core", "knots", "dense"])
def test_updates_that_are_zero_or_absent_keep_a_shape(space):
    zero = LowRank(np.zeros((15, 2)), np.zeros((2, 11)))
    absent = LowRank(np.zeros((15, 0)), np.zeros((0, 11)))
    seen = view(space, [zero, absent], [1.0, 1.0])
    assert np.all(full(seen.rebuild([seen.groups[0][0][0] + seen.groups[0][0][1]])) == 0)
