"""adaptkit.training.settings.orthogonal: a start apart from what other adapters use, at the norm PEFT would give it."""

from __future__ import annotations

import numpy as np
import pytest

from adaptkit.errors import TrainingError
from adaptkit.training.settings.orthogonal import apart_from
from adaptkit.training.settings.seeds import seed_of


def test_the_start_is_orthogonal_and_as_long_as_a_free_one():
    taken = np.random.default_rng(0).normal(size=(6, 64))
    start = apart_from(taken, 8, 3, "q_proj")
    assert start.dtype == np.float32
    assert np.abs(start @ taken.T).max() < 1e-5
    free = apart_from(np.zeros((1, 64)), 8, 3, "q_proj")
    np.testing.assert_allclose(
        np.linalg.norm(start, axis=1), np.linalg.norm(free, axis=1), rtol=1e-5
    )
    assert np.abs(free).max() <= 1 / 8


def test_it_depends_on_seed_and_module():
    taken = np.eye(16)[:2]
    assert (apart_from(taken, 4, 1, "q") == apart_from(taken, 4, 1, "q")).all()
    assert (apart_from(taken, 4, 1, "q") != apart_from(taken, 4, 2, "q")).any()
    assert (apart_from(taken, 4, 1, "q") != apart_from(taken, 4, 1, "v")).any()


def test_too_little_room_is_an_error():
    with pytest.raises(TrainingError, match="they take 6 of its 8 dimensions, and rank 4 needs"):
        apart_from(np.eye(8)[:6], 4, 0, "q")


def test_a_names_seed_is_the_same_everywhere():
    assert seed_of("naval") == 674885130
    assert seed_of("naval") != seed_of("medic")
    assert 0 <= seed_of("naval") < 2**31
