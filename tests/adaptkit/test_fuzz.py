"""Broken bytes in everything that is read from elsewhere end in one of the errors for it; `make soak` tries many."""

from __future__ import annotations

import pytest
from broken_bytes import READERS, fuzz


@pytest.mark.parametrize("kind", READERS)
def test_broken_bytes_are_refused_and_never_a_bug(kind, tmp_path):
    assert sum(fuzz(kind, tmp_path, 60).values()) >= 60


@pytest.mark.soak
@pytest.mark.parametrize("kind", READERS)
def test_many_broken_bytes_are_refused_and_never_a_bug(kind, tmp_path):
    assert sum(fuzz(kind, tmp_path, 3_000).values()) >= 3_000
