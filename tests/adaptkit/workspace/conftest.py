"""What tests of calibrating and distilling share."""

from __future__ import annotations

import pytest
import talking
import tiny


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


@pytest.fixture
def two(workspace, talker, talkers, tmp_path):
    """A workspace with both, and a file of prompts for each."""
    for name, folder, first in zip(("naval", "medic"), talkers, (0, 30), strict=True):
        workspace.add(folder, name, base=str(talker))
        talking.save_prompts(tmp_path / f"{name}.jsonl", first, 20)
    return workspace
