"""adaptkit.algebra.moments against matrices written out in float64."""

from __future__ import annotations

import numpy as np
import pytest

from adaptkit.algebra.moments import Sketch, mean_diagonal, shrunk, solve, times, written_out
from adaptkit.extend import Moment


def inputs(count, size, seed=0, decay=0.7):
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((count, size))
        * decay ** np.arange(size)
        @ np.linalg.qr(rng.standard_normal((size, size)))[0]
    )


def moment(size=9, rank=3, seed=0):
    rng = np.random.default_rng(seed)
    return Moment(rng.random(size) + 0.1, rng.standard_normal((size, rank)))


@pytest.mark.parametrize(("count", "size"), [(5, 12), (40, 12), (300, 12)])
def test_a_sketch_that_is_wide_enough_is_the_second_moment_itself(count, size):
    rows = inputs(count, size)
    sketch = Sketch(size, rank=12)
    for part in np.array_split(rows, 7):
        sketch.add(part)
    found = written_out(sketch.moment())
    assert np.abs(found - rows.T @ rows / count).max() < 1e-12
    assert sketch.count == count


def test_a_sketch_of_long_streams_has_the_exact_diagonal_and_the_leading_directions():
    rows = inputs(2000, 64, decay=0.6)
    sketch = Sketch(64, rank=6)
    for part in np.array_split(rows, 50):
        sketch.add(part)
    found, exact = sketch.moment(), rows.T @ rows / 2000
    assert found.factor.shape == (64, 6)
    assert np.abs(np.diag(written_out(found)) - np.diag(exact)).max() < 1e-12
    values, vectors = np.linalg.eigh(exact)
    best = (vectors[:, -6:] * values[-6:]) @ vectors[:, -6:].T
    leading = found.factor @ found.factor.T
    assert np.linalg.norm(leading - best) < 1e-3 * np.linalg.norm(best)


def test_nothing_seen_is_a_moment_of_zeros():
    assert not written_out(Sketch(4).moment()).any()


def test_shrinking_multiplies_the_off_diagonal_entries():
    G = written_out(moment())
    wanted = 0.9 * G + 0.1 * np.diag(np.diag(G))
    assert np.abs(written_out(shrunk(moment(), 0.9)) - wanted).max() < 1e-13


def test_products_and_inverses_are_those_of_the_matrices_written_out():
    moments = [moment(seed=1), moment(rank=5, seed=2), moment(rank=0, seed=3)]
    rows = np.random.default_rng(4).standard_normal((2, 9))
    assert np.abs(times(rows, moments[1]) - rows @ written_out(moments[1])).max() < 1e-12
    whole = sum(map(written_out, moments))
    assert abs(mean_diagonal(moments) - np.diag(whole).mean()) < 1e-13
    wanted = rows @ np.linalg.inv(whole + 0.01 * np.eye(9))
    assert np.abs(solve(rows, moments, 0.01) - wanted).max() < 1e-12
