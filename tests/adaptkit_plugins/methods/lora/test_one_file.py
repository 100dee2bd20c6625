"""An adapter as one file for another tool: written whole, opened again, and nothing left where that fails."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adaptkit.errors import BadRecipe, MergeError, Refused, Unmergeable

NAME = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
FLUX = "single_transformer_blocks.0.attn.to_q"


def lora(path, module, seed, *, kohya=False, alpha=None):
    """A file with one module, and its update."""
    rng = np.random.default_rng(seed)
    A, B = (rng.standard_normal(s).astype("float32") for s in ((4, 8), (8, 4)))
    if kohya:
        stem = f"lora_unet_{module.replace('.', '_')}"
        tensors = {f"{stem}.lora_down.weight": A, f"{stem}.lora_up.weight": B}
        tensors[f"{stem}.alpha"] = np.array(alpha or 4, "float32")
    else:
        tensors = {f"{module}.lora_A.weight": A, f"{module}.lora_B.weight": B}
    save_file(tensors, path)
    return path, (alpha or 4) / 4 * B @ A


def update(file):
    """The update of a file's only module."""
    tensors = load_file(file)
    A = next(v for k, v in tensors.items() if k.endswith(("lora_down.weight", "lora_A.weight")))
    B = next(v for k, v in tensors.items() if k.endswith(("lora_up.weight", "lora_B.weight")))
    alpha = next((float(v) for k, v in tensors.items() if k.endswith(".alpha")), float(len(A)))
    return alpha / len(A) * B @ A


def test_a_merge_of_kohyas_files_is_one_file_of_kohya(workspace, tmp_path):
    one, first = lora(tmp_path / "one.safetensors", NAME, 1, kohya=True, alpha=2)
    two, second = lora(tmp_path / "two.safetensors", NAME, 2, kohya=True)
    made = workspace.merge({one: 0.5, two: 0.25}, out=tmp_path / "mixed.safetensors")
    assert made.out == tmp_path / "mixed.safetensors"
    assert all(key.startswith("lora_unet_down_blocks_0_") for key in load_file(made.out))
    assert np.allclose(update(made.out), 0.5 * first + 0.25 * second, atol=1e-5)
    assert {p.name for p in tmp_path.iterdir()} >= {"mixed.safetensors"}
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".adaptkit")]


def test_files_of_different_tools_become_one_for_diffusers_or_as_asked(workspace, tmp_path):
    one, first = lora(tmp_path / "one.safetensors", NAME, 1, kohya=True)
    two, second = lora(tmp_path / "two.safetensors", f"unet.{NAME}", 2)
    for dialect, start in ((None, "unet."), ("kohya", "lora_unet_"), ("comfyui", "lora_unet_")):
        out = tmp_path / f"{dialect}.safetensors"
        workspace.merge({one: 1, two: 1}, out=out, dialect=dialect)
        assert all(key.startswith(start) for key in load_file(out))
        assert np.allclose(update(out), first + second, atol=1e-5)
        again = workspace.add(out, name=f"again-{dialect}")
        config = json.loads((workspace.path(again.version.ref) / "adapter_config.json").read_text())
        assert config["target_modules"] == [f"unet.{NAME}"]


def test_export_writes_one_file_where_a_file_is_named(workspace, tmp_path):
    source, wanted = lora(tmp_path / "a.safetensors", f"transformer.{FLUX}", 3)
    workspace.add(source, name="a")
    for dialect, key in (
        ("kohya", f"lora_transformer_{FLUX.replace('.', '_')}.lora_down.weight"),
        ("diffusers", f"transformer.{FLUX}.lora_A.weight"),
        ("comfyui", f"transformer.{FLUX}.lora_A.weight"),
    ):
        out = workspace.export("a", tmp_path / f"{dialect}.safetensors", dialect=dialect)
        assert out.is_file()
        assert key in load_file(out)
        assert np.allclose(update(out), wanted, atol=1e-6)
    with pytest.raises(Refused, match=r"kohya.safetensors exists"):
        workspace.export("a", tmp_path / "kohya.safetensors", dialect="kohya")


def test_comfyui_gets_an_original_models_names_and_no_renamed_wan(workspace, tmp_path):
    rest = {"kohya": "lora_unet_x_embedder_own", "comfyui": "diffusion_model."}
    file = tmp_path / "o.safetensors"
    rng = np.random.default_rng(0)
    stem = "transformer.joint_blocks.0.context_block.attn.qkv"
    save_file(
        {
            f"{stem}.lora_A.weight": rng.standard_normal((4, 8)).astype("float32"),
            f"{stem}.lora_B.weight": rng.standard_normal((24, 4)).astype("float32"),
        },
        file,
    )
    workspace.add(file, name="o")
    out = workspace.export("o", tmp_path / "c.safetensors", dialect="comfyui")
    assert all(key.startswith(rest["comfyui"] + "joint_blocks.0.") for key in load_file(out))
    out = workspace.export("o", tmp_path / "k.safetensors", dialect="kohya")
    assert all(key.startswith("lora_unet_joint_blocks_0_") for key in load_file(out))
    wan, _ = lora(tmp_path / "w.safetensors", "transformer.blocks.0.attn1.to_q", 1)
    workspace.add(wan, name="w")
    with pytest.raises(Unmergeable, match="ComfyUI reads Wan by the original model's names"):
        workspace.export("w", tmp_path / "w2.safetensors", dialect="comfyui")
    assert not (tmp_path / "w2.safetensors").exists()


def test_a_tool_is_named_only_where_one_file_is_written(workspace, tmp_path):
    one, _ = lora(tmp_path / "one.safetensors", NAME, 1, kohya=True)
    with pytest.raises(BadRecipe, match="what another tool reads is one file") as caught:
        workspace.merge([str(one)], out=tmp_path / "folder", dialect="kohya")
    assert "--out NAME.safetensors" in caught.value.fix


def test_a_file_that_diffusers_refuses_is_an_error_and_nothing_is_left(workspace, tmp_path):
    """diffusers' reader of kohya's files takes `token_embedding` for two names, and would apply nothing."""
    pytest.importorskip("diffusers")
    file, _ = lora(
        tmp_path / "odd.safetensors", "text_encoder.text_model.embeddings.token_embedding", 1
    )
    workspace.add(file, name="odd")
    with pytest.raises(MergeError, match="for kohya could not be read there") as caught:
        workspace.export("odd", tmp_path / "k.safetensors", dialect="kohya")
    assert "diffusers" in caught.value.why
    assert "refuses it" in caught.value.why
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["odd.safetensors"]


def test_extras_say_what_they_do_to_one_adapter_alone(workspace, lora_pair, tmp_path):
    workspace.merge([str(lora_pair[0])], extras="drop", out=tmp_path / "alone")
    said = [text for text in workspace.noticed if text.startswith("--extras drop settles")]
    assert len(said) == 1
    assert "changes nothing of" in said[0]
