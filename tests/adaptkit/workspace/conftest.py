"""What tests of calibrating and distilling share."""

from __future__ import annotations

import pytest
import talking
import tiny
from homes import copied

from adaptkit import Workspace


@pytest.fixture(scope="session")
def talker(tmp_path_factory):
    """A tiny base with a tokenizer."""
    return talking.save_base(tmp_path_factory.mktemp("talker") / "base")


@pytest.fixture(scope="session")
def talkers(talker, tmp_path_factory):
    """Two adapters on it, on all linear modules."""
    folder = tmp_path_factory.mktemp("talkers")
    how = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear"}
    return [tiny.save_adapter(talker, folder / str(seed), seed=seed, **how) for seed in (1, 2)]


@pytest.fixture(scope="session")
def home_of_talkers(talker, talkers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "home"
    with Workspace.init(folder) as workspace:
        for name, made in zip(("naval", "medic"), talkers, strict=True):
            workspace.add(made, name, base=str(talker))
    return folder


@pytest.fixture
def two(home_of_talkers, tmp_path):
    """A workspace with both, and a file of prompts for each."""
    for name, first in (("naval", 0), ("medic", 30)):
        talking.save_prompts(tmp_path / f"{name}.jsonl", first, 20)
    with copied(home_of_talkers, tmp_path / "home") as opened:
        yield opened
