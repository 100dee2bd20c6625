"""A result that fails its check is not left behind, neither where it was to go nor in the home."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from adaptkit.errors import AdaptkitError

WHY = {
    "merge": "came out as NaN or Inf",
    "resize": "came out as NaN or Inf",
    "convert": "came out as NaN or Inf",
    "extract": "q_proj.weight' of the tuned model or of the base holds NaN or Inf",
}


@pytest.fixture
def overflowing(lora_pair, tmp_path):
    """An adapter whose numbers are finite, and whose updates are too large for half precision."""
    folder = shutil.copytree(lora_pair[0], tmp_path / "overflowing")
    file = folder / "adapter_model.safetensors"
    save_file({key: value * np.float32(1e6) for key, value in load_file(file).items()}, file)
    return folder


@pytest.mark.parametrize("operation", ["merge", "resize", "convert", "extract"])
@pytest.mark.parametrize("where", ["name", "out"])
def test_a_result_that_fails_leaves_nothing(
    operation, where, workspace, overflowing, lora_pair, tiny_llama, tmp_path
):
    made = {"name": "made"} if where == "name" else {"out": tmp_path / "made"}
    broken = tmp_path / "tuned"
    shutil.copytree(tiny_llama, broken)
    file = broken / "model.safetensors"
    tensors = load_file(file)
    first = next(key for key in sorted(tensors) if "q_proj" in key)
    tensors[first] = np.full_like(tensors[first], np.nan)
    save_file(tensors, file, {"format": "pt"})
    given = {
        "merge": lambda: workspace.merge(
            [str(overflowing), str(lora_pair[1])], dtype="float16", force=True, **made
        ),
        "resize": lambda: workspace.resize(str(overflowing), rank=2, dtype="float16", **made),
        "convert": lambda: workspace.convert(str(overflowing), dtype="float16", **made),
        "extract": lambda: workspace.extract(broken, tiny_llama, rank=2, **made),
    }
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(AdaptkitError, match=WHY[operation]):
        given[operation]()
    assert {path.name for path in tmp_path.iterdir()} == before
    assert workspace.list() == ()
    home = workspace.home.path
    assert not [path for path in home.rglob("*") if path.name == "adapter_model.safetensors"]


@pytest.mark.parametrize("out", ["made", "made.safetensors"])
def test_an_export_that_is_refused_leaves_nothing(out, workspace, lora_pair, tmp_path):
    folder = shutil.copytree(lora_pair[0], tmp_path / "biased")
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    first = next(key for key in sorted(tensors) if "lora_B" in key)
    name = first.replace("lora_B.weight", "base_layer.bias")
    tensors[name] = np.ones(tensors[first].shape[0], np.float32)
    save_file(tensors, file)
    tiny.edit_config(folder, bias="lora_only")
    workspace.add(folder, "naval", force=True)
    before = {path.name for path in tmp_path.iterdir()}
    for dialect in ("kohya", "diffusers"):
        with pytest.raises(AdaptkitError, match="cannot write|could not be read there"):
            workspace.export("naval", tmp_path / out, dialect=dialect)
        assert {path.name for path in tmp_path.iterdir()} == before
