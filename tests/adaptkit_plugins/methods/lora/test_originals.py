"""Files with the names of original checkpoints: read as diffusers reads them, or kept with a word about it."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from adaptkit.errors import AdaptkitError, Unmergeable

RNG = np.random.default_rng(0)


def random(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def kohya(name, rows, columns, alpha=2.0):
    return {
        f"{name}.lora_down.weight": random(4, columns),
        f"{name}.lora_up.weight": random(rows, 4),
        f"{name}.alpha": np.float32(alpha),
    }


def plain(name, rows, columns):
    return {f"{name}.lora_A.weight": random(4, columns), f"{name}.lora_B.weight": random(rows, 4)}


def targets(workspace, ref):
    return tiny.read_config(workspace.path(ref))["target_modules"]


@pytest.fixture
def write(tmp_path):
    def file(name, tensors, metadata=None):
        path = tmp_path / f"{name}.safetensors"
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, metadata)
        return path

    return file


def products(tensors):
    """B·A of each module."""
    return {
        key.removesuffix(".lora_A.weight"): tensors[key.replace("lora_A", "lora_B")] @ value
        for key, value in tensors.items()
        if key.endswith(".lora_A.weight")
    }


def test_kohyas_flux_is_written_for_diffusers_as_diffusers_reads_it(write, workspace, tmp_path):
    pytest.importorskip("diffusers", reason="pip install diffusers")
    import torch
    from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin

    file = write(
        "flux",
        kohya("lora_unet_double_blocks_0_img_attn_qkv", 96, 32)
        | kohya("lora_unet_double_blocks_0_img_attn_proj", 32, 32)
        | kohya("lora_unet_single_blocks_0_modulation_lin", 96, 32),
        {"ss_network_module": "networks.lora_flux", "ss_sd_model_name": "flux1-dev"},
    )
    workspace.add(file, "flux")
    assert "diffusers' converter translated them" in " ".join(workspace.noticed)
    workspace.export("flux", tmp_path / "out", dialect="diffusers")
    ours = products(load_file(tmp_path / "out" / "pytorch_lora_weights.safetensors"))
    given = {k: torch.from_numpy(v) for k, v in load_file(file).items()}
    theirs = products({k: v.numpy() for k, v in FluxLoraLoaderMixin.lora_state_dict(given).items()})
    assert ours.keys() == theirs.keys()
    assert all(np.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)
    assert "transformer.transformer_blocks.0.attn.to_q" in ours


def test_metadata_of_a_file_goes_back_into_one_file_for_kohya(write, workspace, tmp_path):
    from safetensors import safe_open

    tensors = kohya("lora_unet_down_blocks_0_attentions_0_proj_in", 8, 8)
    workspace.add(write("sd", tensors, {"ss_sd_model_name": "sd15"}), "sd")
    made = workspace.export("sd", tmp_path / "sd-out.safetensors", dialect="kohya")
    assert made == tmp_path / "sd-out.safetensors"
    with safe_open(made, "np") as file:
        assert file.metadata()["ss_sd_model_name"] == "sd15"
        assert set(file.keys()) == set(tensors)


def test_files_of_comfyui_and_ai_toolkit_have_the_names_of_diffusers(write, workspace):
    pytest.importorskip("diffusers", reason="pip install diffusers")
    workspace.add(write("wan", plain("diffusion_model.blocks.0.self_attn.q", 8, 8)), "wan")
    assert targets(workspace, "wan") == ["transformer.blocks.0.attn1.to_q"]


def test_sdxls_block_numbers_become_those_of_diffusers(write, workspace):
    pytest.importorskip("diffusers", reason="pip install diffusers")
    name = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    workspace.add(write("sdxl", kohya(name, 16, 16)), "sdxl")
    wanted = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    assert targets(workspace, "sdxl") == [wanted]


def test_processors_without_a_part_and_old_text_encoders_are_read(write, workspace):
    p = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_k_lora"
    workspace.add(
        write("a", {f"{p}.down.weight": random(4, 8), f"{p}.up.weight": random(8, 4)}), "a"
    )
    wanted = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"
    assert targets(workspace, "a") == [wanted]
    t = "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora"
    workspace.add(
        write("t", {f"{t}.down.weight": random(4, 8), f"{t}.up.weight": random(8, 4)}), "t"
    )
    assert targets(workspace, "t") == ["text_encoder.text_model.encoder.layers.0.self_attn.q_proj"]


def test_a_folder_that_a_unet_saved_is_read(workspace, tmp_path):
    (tmp_path / "u").mkdir()
    save_file(
        plain("mid_block.attn.to_q", 8, 8), tmp_path / "u" / "pytorch_lora_weights.safetensors"
    )
    workspace.add(tmp_path / "u", "u")
    assert targets(workspace, "u") == ["unet.mid_block.attn.to_q"]


def test_a_middle_convolution_is_multiplied_in(write, workspace):
    import torch

    name = "lora_unet_down_blocks_0_resnets_0_conv1"
    down, mid, up = random(4, 8, 1, 1), random(4, 4, 3, 3), random(8, 4, 1, 1)
    keys = {"lora_down": down, "lora_mid": mid, "lora_up": up}
    workspace.add(write("mid", {f"{name}.{k}.weight": v for k, v in keys.items()}), "mid")
    tensors = load_file(workspace.path("mid") / "adapter_model.safetensors")
    x = torch.from_numpy(random(1, 8, 5, 5))
    conv = torch.nn.functional.conv2d
    want = conv(conv(x, torch.from_numpy(down)), torch.from_numpy(mid), padding=1)
    A = next(v for k, v in tensors.items() if k.endswith("lora_A.weight"))
    assert torch.allclose(conv(x, torch.from_numpy(A), padding=1), want, atol=1e-4)


def test_lycoris_in_a_file_of_kohya_becomes_loha(write, workspace):
    name = "lora_unet_down_blocks_0_attentions_0_proj_in"
    factors = {"hada_w1_a": (8, 4), "hada_w1_b": (4, 8), "hada_w2_a": (8, 4), "hada_w2_b": (4, 8)}
    tensors = {f"{name}.{k}": random(*shape) for k, shape in factors.items()}
    added = workspace.add(write("hada", tensors | {f"{name}.alpha": np.float32(2)}), "hada")
    assert added.version.method == "loha"
    config = tiny.read_config(workspace.path("hada"))
    assert (config["r"], config["alpha"]) == (4, 2)


def test_a_guess_about_names_is_said_and_what_diffusers_would_pass_over_is_refused(
    write, workspace, tmp_path
):
    file = write(
        "n",
        kohya("lora_unet_strange_layer_of_mine", 8, 8)
        | kohya("lora_unet_final_layer_linear", 8, 8),
    )
    workspace.add(file, "n")
    assert "which is a guess" in " ".join(workspace.noticed)
    with pytest.raises(Unmergeable, match="is a name of the original checkpoint"):
        workspace.export("n", tmp_path / "out", dialect="diffusers")
    assert not (tmp_path / "out").exists()


def test_dora_under_original_names_is_kept_as_it_is(write, workspace):
    name = "lora_unet_double_blocks_0_img_attn_proj"
    tensors = kohya(name, 32, 32) | {f"{name}.dora_scale": random(32, 1)}
    workspace.add(write("d", tensors), "d")
    assert "which diffusers' converter for Flux would drop" in " ".join(workspace.noticed)


def test_a_mix_of_algorithms_is_refused(write, workspace):
    name = "lora_unet_down_blocks_0_attentions_0_proj_in"
    mixed = kohya("lora_unet_mid_block_proj", 8, 8) | {
        f"{name}.lokr_w1": random(2, 2),
        f"{name}.lokr_w2": random(4, 4),
    }
    with pytest.raises(AdaptkitError, match="it mixes LoRA, LoHa and LoKr"):
        workspace.add(write("mix", mixed), "mix")


def merged(workspace, ref):
    """B·A of each module that was read, with its scale."""
    folder = workspace.path(ref)
    config = tiny.read_config(folder)
    scale = config["lora_alpha"] / config["r"]
    found = products(load_file(folder / "adapter_model.safetensors"))
    return {name.removeprefix("base_model.model."): scale * value for name, value in found.items()}


def by_diffusers(mixin, file):
    """B·A of each module as diffusers' reader of a model has them."""
    lora_pipeline = pytest.importorskip("diffusers.loaders.lora_pipeline")
    read = getattr(lora_pipeline, mixin).lora_state_dict(str(file))
    table = read[0] if isinstance(read, tuple) else read
    return products({key: value.float().numpy() for key, value in table.items()})


XLABS = {
    f"{blocks}.0.processor.{layer}.{side}.weight": shape
    for blocks, layers in (
        ("double_blocks", {"proj_lora1": 64, "qkv_lora2": 192}),
        ("single_blocks", {"proj_lora": 64, "qkv_lora": 192}),
    )
    for layer, rows in layers.items()
    for side, shape in (("down", (4, 64)), ("up", (rows, 4)))
}


def flux_2(make, start, dot):
    layers = {"double_blocks.0.img_attn.qkv": 192, "double_blocks.0.img_mlp.0": 384}
    layers["single_blocks.0.linear1"] = 576
    tensors = {}
    for layer, rows in layers.items():
        tensors |= make(f"{start}{layer.replace('.', dot)}", rows, 64)
    return tensors


@pytest.mark.parametrize(
    ("mixin", "tensors"),
    [
        ("FluxLoraLoaderMixin", {key: random(*shape) for key, shape in XLABS.items()}),
        ("Flux2LoraLoaderMixin", flux_2(kohya, "lora_unet_", "_")),
        ("Flux2LoraLoaderMixin", flux_2(plain, "diffusion_model.", ".")),
        (
            "FluxLoraLoaderMixin",
            kohya("transformer.single_transformer_blocks.0.attn.to_q", 8, 8, alpha=4),
        ),
    ],
    ids=["XLabs", "Flux 2 of kohya", "Flux 2 of ComfyUI", "kohya's ends"],
)
def test_names_and_layers_are_those_that_diffusers_makes_of_them(write, workspace, mixin, tensors):
    file = write("x", tensors)
    want = by_diffusers(mixin, file)
    workspace.add(file, "x")
    found = merged(workspace, "x")
    assert found.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_a_file_with_the_names_of_two_tools_is_read_key_by_key(write, workspace):
    unet = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    workspace.add(write("mixed", plain(unet, 8, 8) | kohya(text, 8, 8)), "mixed")
    attention = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    assert targets(workspace, "mixed") == [attention, unet]


def test_bundled_words_are_left_out_with_a_word_about_it(write, workspace):
    tensors = kohya("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q", 8, 8)
    tensors |= {"bundle_emb.ohwx.clip_l": random(2, 8)}
    workspace.add(write("bundle", tensors), "bundle")
    assert targets(workspace, "bundle") == [
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    ]
    assert "'bundle_emb.ohwx.clip_l' is left out" in " ".join(workspace.noticed)


@pytest.mark.parametrize("alphas", [(0.0, 0.0), (0.0, 3.0), (2.3, 2.3)])
def test_alphas_of_any_size_come_back_from_a_file_for_kohya(write, workspace, tmp_path, alphas):
    import ml_dtypes

    tensors = {}
    for number, alpha in enumerate(alphas):
        name = f"lora_unet_mid_block_attentions_{number}_proj_out"
        made = kohya(name, 8, 8, alpha)
        tensors |= {key: value.astype(ml_dtypes.bfloat16) for key, value in made.items()}
        tensors[f"{name}.alpha"] = made[f"{name}.alpha"]
    workspace.add(write("narrow", tensors), "narrow")
    workspace.export("narrow", tmp_path / "out.safetensors", dialect="kohya")
    again = load_file(tmp_path / "out.safetensors")
    for number, alpha in enumerate(alphas):
        name = f"lora_unet_mid_block_attentions_{number}_proj_out"
        up, down = (
            again[f"{name}.{side}.weight"].astype("f4") for side in ("lora_up", "lora_down")
        )
        was = tensors[f"{name}.lora_up.weight"].astype("f4") @ down
        found = float(again[f"{name}.alpha"]) * (up @ down)
        np.testing.assert_allclose(found, alpha * was, rtol=1e-6)
