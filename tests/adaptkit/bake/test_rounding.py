"""A bake rounds once, to the nearest and ties to even: to the bit, where float32 holds the sum exactly."""

from __future__ import annotations

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

START = "base_model.model."
DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def eighths(rng, shape, most):
    return (rng.integers(-most, most + 1, shape) / 8).astype(np.float32)


@pytest.fixture
def exact(tiny_llama, lora_pair, tmp_path):
    """A bf16 base and a LoRA of eighths: every product and sum of them is a float32."""
    rng = np.random.default_rng(0)
    base = shutil.copytree(tiny_llama, tmp_path / "base")
    adapter = shutil.copytree(lora_pair[0], tmp_path / "adapter")
    weights = {
        name: eighths(rng, value.shape, 127).astype(ml_dtypes.bfloat16)
        for name, value in load_file(base / "model.safetensors").items()
    }
    factors = {
        name: eighths(rng, value.shape, 15)
        for name, value in load_file(adapter / "adapter_model.safetensors").items()
    }
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    save_file(factors, adapter / "adapter_model.safetensors")
    return base, adapter, weights, factors


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("workers", [1, 3])
def test_every_number_is_the_nearest_of_its_dtype(exact, workspace, tmp_path, dtype, workers):
    base, adapter, weights, factors = exact
    config = json.loads((adapter / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    out = tmp_path / "out"
    workspace.bake(str(adapter), base, out, dtype=dtype, workers=workers, force=True)
    changed = [key for key in factors if key.endswith(".lora_A.weight")]
    wanted = {name: value.astype(np.float64) for name, value in weights.items()}
    for key in changed:
        update = factors[key.replace("lora_A", "lora_B")].astype(np.float64) @ factors[key]
        wanted[key.removeprefix(START).replace("lora_A.", "")] += scale * update
    baked = load_file(out / "model.safetensors")
    assert baked.keys() == wanted.keys()
    ties = 0
    for name, value in wanted.items():
        single = value.astype(np.float32)
        assert (single == value).all()
        assert (baked[name].view(np.uint16) == single.astype(DTYPES[dtype]).view(np.uint16)).all()
        ties += int((single.view(np.uint32) & 0xFFFF == 0x8000).sum())
    assert len(changed) > 1
    assert ties > 100  # halfway between two numbers of bfloat16


def test_whole_numbers_that_an_adapter_brings_take_the_dtype_of_the_base(
    tiny_llama, lora_pair, workspace, tmp_path
):
    adapter = shutil.copytree(lora_pair[0], tmp_path / "adapter")
    file = adapter / "adapter_model.safetensors"
    head = np.arange(64 * 32, dtype=np.int8).reshape(64, 32)
    save_file(load_file(file) | {f"{START}lm_head.weight": head}, file)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(
        json.dumps(config | {"modules_to_save": ["lm_head"]})
    )
    workspace.bake(str(adapter), tiny_llama, tmp_path / "out", force=True)
    baked = load_file(tmp_path / "out" / "model.safetensors")["lm_head.weight"]
    assert baked.dtype == np.float32
    assert (baked == head).all()
