"""examples/lora_from_scratch.py: three ways to compute one thing."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import lora_from_scratch as example

PAGE = Path(__file__).parents[2] / "docs" / "lora-from-scratch.md"


def test_the_forward_of_numpy_of_torch_and_of_peft_is_one():
    apart = example.compare()
    assert list(apart) == ["NumPy", "a layer of our own", "PEFT", "merged into W"]
    assert max(apart.values()) < 1e-6


def test_the_update_is_not_nothing():
    found = example.numbers()
    W, A, B, x = (found[name] for name in "WABx")
    assert np.abs(example.lora_in_numpy(W, A, B, x) - x @ W.T).max() > 0.1


def test_only_the_factors_of_our_own_layer_are_trained():
    found = example.numbers()
    layer = example.layer_of_our_own(found["W"], found["A"], found["B"])
    trained = {name for name, value in layer.named_parameters() if value.requires_grad}
    assert trained == {"A", "B"}


@pytest.mark.parametrize("name", ["lora_in_numpy", "LoRALinear", "merged"])
def test_the_page_shows_the_code_that_ran(name):
    source = Path(example.__file__).read_text(encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    shown = next(block for block in blocks if name in block)
    lines = [line.strip() for line in shown.splitlines() if line.strip()]
    assert all(line in {one.strip() for one in source.splitlines()} for line in lines)
