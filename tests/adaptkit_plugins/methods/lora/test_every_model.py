"""LoRA files of each model that diffusers has a converter for: read, and written again, as diffusers itself reads them."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adaptkit.errors import Unmergeable

pytestmark = pytest.mark.skipif(find_spec("diffusers") is None, reason="pip install diffusers")

ALPHA, RANK = 2.0, 4
# module, rows, columns; named as the original checkpoint names them
WAN = [(f"blocks.0.{a}.{m}", 8, 8) for a in ("self_attn", "cross_attn") for m in "qkvo"]
WAN += [("blocks.0.ffn.0", 16, 8), ("blocks.0.ffn.2", 8, 16)]
LUMINA = [("layers.0.attention.qkv", 3840, 8), ("layers.0.attention.out", 8, 8)]
LUMINA += [(f"layers.0.feed_forward.w{n}", 8, 8) for n in (1, 2, 3)]
LUMINA += [("layers.0.adaLN_modulation.1", 8, 8)]
ZIMAGE = [("layers.0.attention.qkv", 24, 8), ("layers.0.attention.out", 8, 8)]
ZIMAGE += [("layers.0.feed_forward.w1", 16, 8), ("noise_refiner.0.adaLN_modulation.0", 32, 8)]
HUNYUAN = [("double_blocks.0.img_attn_qkv", 24, 8), ("double_blocks.0.img_attn_proj", 8, 8)]
FLUX = [("double_blocks.0.img_attn.qkv", 96, 32), ("double_blocks.0.img_mlp.0", 8, 32)]
QWEN = [("transformer_blocks.0.attn.to_q", 8, 8), ("transformer_blocks.0.attn.to_add_out", 8, 8)]
QWEN += [("transformer_blocks.0.img_mlp.net.0.proj", 8, 8)]
UNET = "input_blocks.4.1.transformer_blocks.0.attn1.to_q"
TEXT = [f"text_model.encoder.layers.0.self_attn.{n}_proj" for n in ("q", "out")]
SD = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
SDXL = [(f"lora_unet_{UNET}", 8, 8), *((f"lora_te{n}_{t}", 8, 8) for n in (1, 2) for t in TEXT)]


def pairs(modules, first, second, *, alpha):
    rng = np.random.default_rng(0)
    tensors = {}
    for name, rows, columns in modules:
        tensors[f"{name}.{first}.weight"] = rng.standard_normal((RANK, columns), np.float32)
        tensors[f"{name}.{second}.weight"] = rng.standard_normal((rows, RANK), np.float32)
        if alpha:
            tensors[f"{name}.alpha"] = np.array(ALPHA, np.float32)
    return tensors


def kohya(modules, prefix="lora_unet_"):
    flat = [(f"{prefix}{name.replace('.', '_')}", *shape) for name, *shape in modules]
    return pairs(flat, "lora_down", "lora_up", alpha=True)


def under(prefix, modules):
    named = [(f"{prefix}{name}", *shape) for name, *shape in modules]
    return pairs(named, "lora_A", "lora_B", alpha=False)


SAME = {  # these files are what `--to diffusers` writes
    "SD 1.5": ("StableDiffusion", under("unet.", [(SD, 8, 8)])),
    "SD3": ("SD3", under("transformer.transformer_blocks.0.", [("attn.to_q", 8, 8)])),
    "Flux": ("Flux", under("transformer.single_transformer_blocks.0.", [("proj_mlp", 8, 8)])),
    "Wan": ("Wan", under("transformer.blocks.0.", [("attn1.to_q", 8, 8)])),
    "Qwen-Image": ("QwenImage", under("transformer.", QWEN)),
    "HunyuanVideo": (
        "HunyuanVideo",
        under("transformer.", [("single_transformer_blocks.0.attn.to_q", 8, 8)]),
    ),
    "Lumina": ("Lumina2", under("transformer.layers.0.", [("attn.to_q", 8, 8)])),
}
OTHERS = {
    "SD 1.5 of kohya": ("StableDiffusion", kohya([(SD, 8, 8)])),
    "SDXL of kohya": ("StableDiffusionXL", kohya(SDXL, "")),
    "Flux of kohya": ("Flux", kohya(FLUX)),
    "Wan of ComfyUI": ("Wan", under("diffusion_model.", WAN)),
    "Wan of musubi": ("Wan", kohya(WAN)),
    "Qwen-Image of musubi": ("QwenImage", kohya(QWEN)),
    "Qwen-Image of ComfyUI": ("QwenImage", under("diffusion_model.", QWEN)),
    "HunyuanVideo of ComfyUI": ("HunyuanVideo", under("diffusion_model.", HUNYUAN)),
    "Lumina of ComfyUI": ("Lumina2", under("diffusion_model.", LUMINA)),
    "Z-Image of kohya": ("ZImage", kohya(ZIMAGE)),
}
_DOWN = re.compile(r"(?P<stem>.+?)(?:_lora|\.lora_linear_layer|\.lora)?\.(?:down|lora_A)\.weight")


def as_diffusers_reads(mixin, tensors):
    """s·B·A of every module that the reader of a model finds, by names without the spelling of old processors."""
    import torch
    from diffusers.loaders import lora_pipeline

    loader = getattr(lora_pipeline, f"{mixin}LoraLoaderMixin")
    more = {"unet_config": SimpleNamespace(layers_per_block=2)} if mixin.endswith("XL") else {}
    given = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
    made = loader.lora_state_dict(given, **more)
    table, alphas = made if isinstance(made, tuple) else (made, None)
    found = {}
    for key, down in table.items():
        match = _DOWN.fullmatch(key)
        if match is None:
            continue
        up = table[key.replace("lora_A", "lora_B").replace("down.weight", "up.weight")]
        stem = match["stem"]
        alpha = next(
            (
                float(alphas[name])
                for name in (f"{key}.alpha", f"{stem}.alpha")
                if alphas and name in alphas
            ),
            len(down),
        )
        name = stem.replace(".processor.", ".").replace("self_attn.to_", "self_attn.")
        name = re.sub(r"self_attn\.(q|k|v|out)$", r"self_attn.\1_proj", name)
        found[name] = alpha / len(down) * (up.float() @ down.float()).numpy()
    return found


def close(found, wanted):
    assert found.keys() == wanted.keys()
    assert found
    for name, value in wanted.items():
        assert np.allclose(found[name], value, atol=1e-4), name


@pytest.mark.parametrize("model", [*SAME, *OTHERS])
def test_what_is_written_for_diffusers_is_what_diffusers_reads_in_the_file(
    model, workspace, tmp_path
):
    mixin, tensors = (SAME | OTHERS)[model]
    save_file(tensors, tmp_path / "a.safetensors")
    workspace.add(tmp_path / "a.safetensors", "a")
    out = workspace.export("a", tmp_path / "out.safetensors", dialect="diffusers")
    wanted = as_diffusers_reads(mixin, tensors)
    close(as_diffusers_reads(mixin, load_file(out)), wanted)
    assert len(wanted) >= sum(".lora_down." in key or ".lora_A." in key for key in tensors)


@pytest.mark.parametrize(
    "model", ["SD 1.5 of kohya", "SDXL of kohya", "Qwen-Image of musubi", "Qwen-Image"]
)
def test_what_is_written_for_kohya_is_what_diffusers_reads_in_the_file(model, workspace, tmp_path):
    mixin, tensors = (SAME | OTHERS)[model]
    save_file(tensors, tmp_path / "a.safetensors")
    workspace.add(tmp_path / "a.safetensors", "a")
    out = workspace.export("a", tmp_path / "out.safetensors", dialect="kohya")
    assert all(key.startswith("lora_") for key in load_file(out))
    close(as_diffusers_reads(mixin, load_file(out)), as_diffusers_reads(mixin, tensors))


@pytest.mark.parametrize("model", ["Qwen-Image", "Lumina", "HunyuanVideo"])
def test_what_is_written_for_comfyui_is_what_diffusers_reads_in_the_file(
    model, workspace, tmp_path
):
    mixin, tensors = SAME[model]
    save_file(tensors, tmp_path / "a.safetensors")
    workspace.add(tmp_path / "a.safetensors", "a")
    out = workspace.export("a", tmp_path / "out.safetensors", dialect="comfyui")
    close(as_diffusers_reads(mixin, load_file(out)), as_diffusers_reads(mixin, tensors))


@pytest.mark.parametrize(("model", "called"), [("Wan", "Wan"), ("Lumina", "Lumina2")])
def test_names_of_diffusers_are_not_written_for_kohya_where_its_tools_have_others(
    model, called, workspace, tmp_path
):
    save_file(SAME[model][1], tmp_path / "a.safetensors")
    workspace.add(tmp_path / "a.safetensors", "a")
    with pytest.raises(Unmergeable, match=f"its tools read {called} by the original model's names"):
        workspace.export("a", tmp_path / "out.safetensors", dialect="kohya")
    assert not (tmp_path / "out.safetensors").exists()


def test_hunyuan_of_musubi_keeps_its_names_and_says_why(workspace, tmp_path):
    """diffusers converts only the dotted names of this model."""
    mod = ("double_blocks.0.img_mod.linear", 8, 8)
    save_file(kohya([*HUNYUAN, mod]), tmp_path / "a.safetensors")
    workspace.add(tmp_path / "a.safetensors", "a")
    assert "it keeps the names of the original HunyuanVideo" in " ".join(workspace.noticed)
    out = workspace.export("a", tmp_path / "out.safetensors", dialect="kohya")
    assert load_file(out).keys() == load_file(tmp_path / "a.safetensors").keys()


def attention(width, *blocks):
    return [(f"transformer_blocks.{block}.attn.to_q", width, width) for block in blocks]


@pytest.mark.parametrize(
    ("width", "blocks", "prefix"),
    [
        (1536, (0,), "lora_transformer"),
        (2432, (0,), "lora_transformer"),
        (3072, (0, 59), "lora_unet"),
    ],
    ids=["SD3 medium", "SD3.5 large", "Qwen-Image"],
)
def test_sizes_tell_whose_attention_it_is(width, blocks, prefix, workspace, tmp_path):
    save_file(under("transformer.", attention(width, *blocks)), tmp_path / "a.safetensors")
    workspace.add(tmp_path / "a.safetensors", "a")
    out = workspace.export("a", tmp_path / "out.safetensors", dialect="kohya")
    assert all(key.startswith(f"{prefix}_transformer_blocks_") for key in load_file(out))


def test_attention_that_four_models_have_is_not_written_for_kohya_until_the_base_is_known(
    workspace, tmp_path
):
    import diffusers

    save_file(under("transformer.", attention(3072, 0, 18)), tmp_path / "a.safetensors")
    workspace.add(tmp_path / "a.safetensors", "a")
    with pytest.raises(Unmergeable, match="cannot write a for kohya") as caught:
        workspace.export("a", tmp_path / "out.safetensors", dialect="kohya")
    assert caught.value.why.startswith(
        "SD3, Flux, HunyuanVideo and Qwen-Image name its modules alike"
    )
    assert "adaptkit base verify REF --base DIR" in caught.value.fix
    assert not (tmp_path / "out.safetensors").exists()
    workspace.export("a", tmp_path / "comfy.safetensors", dialect="comfyui")  # one name for all
    qwen = diffusers.QwenImageTransformer2DModel(
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    qwen.save_pretrained(tmp_path / "qwen")
    sd3 = diffusers.SD3Transformer2DModel(
        sample_size=8,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=8,
    )
    sd3.save_pretrained(tmp_path / "sd3")
    for model, prefix in (("qwen", "lora_unet"), ("sd3", "lora_transformer")):
        tensors = {k: v + len(model) for k, v in under("transformer.", attention(16, 0)).items()}
        save_file(tensors, tmp_path / f"{model}.safetensors")
        workspace.add(tmp_path / f"{model}.safetensors", model, base=str(tmp_path / model))
        out = workspace.export(model, tmp_path / f"{model}-out.safetensors", dialect="kohya")
        assert all(key.startswith(f"{prefix}_transformer") for key in load_file(out)), model


def test_what_diffusers_has_no_converter_for_keeps_its_names_and_is_not_written_for_it(
    workspace, tmp_path
):
    files = {
        "SD3": [("joint_blocks.0.x_block.attn.qkv", 24, 8)],
        "Z-Image": [*ZIMAGE, ("final_layer.linear", 8, 8)],  # which comes out in pieces
        "Lumina 2": [("layers.0.attention.qkv", 40, 24)],  # of other sizes than the converter's
    }
    for model, modules in files.items():
        name = model.replace(" ", "-").lower()
        save_file(under("diffusion_model.", modules), tmp_path / f"{name}.safetensors")
        workspace.add(tmp_path / f"{name}.safetensors", name)
        assert f"it keeps the names of the original {model}: diffusers" in workspace.noticed[-1]
        with pytest.raises(Unmergeable, match="which diffusers would pass over"):
            workspace.export(name, tmp_path / "out.safetensors", dialect="diffusers")
        out = workspace.export(name, tmp_path / f"{name}-out.safetensors", dialect="comfyui")
        assert load_file(out).keys() == load_file(tmp_path / f"{name}.safetensors").keys()
        out = workspace.export(name, tmp_path / f"{name}-flat.safetensors", dialect="kohya")
        assert load_file(out).keys() == kohya(modules).keys()


@pytest.mark.parametrize("some", [LUMINA[:1], LUMINA[1:2], LUMINA[:1] + LUMINA[3:4], LUMINA])
def test_some_modules_of_lumina_are_translated_as_among_all_of_them(workspace, tmp_path, some):
    later = [(name.replace("layers.0", "layers.2"), *shape) for name, *shape in some]
    later += [("context_refiner.1.feed_forward.w1", 8, 8)]
    blocks = ("layers.0", "layers.1", "layers.2", "context_refiner.0", "context_refiner.1")
    every = [
        (name.replace("layers.0", block), *shape)
        for block in blocks
        for name, *shape in LUMINA
        if not (block.startswith("context") and "adaLN" in name)
    ]
    tensors = under("diffusion_model.", later)
    whole = as_diffusers_reads("Lumina2", under("diffusion_model.", every) | tensors)
    flat = pairs(
        [(f"lora_unet_{name.replace('.', '_')}", *shape) for name, *shape in later],
        "lora_down",
        "lora_up",
        alpha=False,
    )
    for spelling in (tensors, flat):
        save_file(spelling, tmp_path / "a.safetensors")
        workspace.add(tmp_path / "a.safetensors", "a", new_version=True)
        assert "diffusers' converter translated them" in " ".join(workspace.noticed)
        out = workspace.export(
            "a", tmp_path / f"{len(workspace.noticed)}.safetensors", dialect="diffusers"
        )
        found = as_diffusers_reads("Lumina2", load_file(out))
        split = {"attention.qkv": 3}
        assert len(found) == sum(
            split.get(n.partition(".")[2].partition(".")[2], 1) for n, *_ in later
        )
        close(found, {name: whole[name] for name in found})


@pytest.mark.parametrize(
    ("mixin", "names"),
    [
        ("Sana", ["transformer_blocks.0.attn1.to_q", "caption_projection.linear_1"]),
        ("HiDreamImage", ["double_stream_blocks.0.block.attn1.to_q", "t_embedder.linear_1"]),
        ("Lumina2", ["context_refiner.0.attn.to_q", "norm_out.linear_1"]),
        ("StableDiffusion", ["down_blocks.0.resnets.0.conv1", "conv_in"]),
    ],
)
def test_all_modules_of_a_component_alone_belong_to_it(workspace, tmp_path, mixin, names):
    tensors = under("base_model.model.", [(name, 8, 8) for name in names])
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": names}
    (tmp_path / "ad").mkdir()
    (tmp_path / "ad" / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "ad" / "adapter_model.safetensors")
    workspace.add(tmp_path / "ad", "a")
    out = workspace.export("a", tmp_path / "out.safetensors", dialect="diffusers")
    part = "unet" if mixin == "StableDiffusion" else "transformer"
    wanted = under(f"{part}.", [(name, 8, 8) for name in names])
    close(as_diffusers_reads(mixin, load_file(out)), as_diffusers_reads(mixin, wanted))


def test_z_image_of_comfyui_becomes_what_diffusers_makes_of_kohyas_spelling(workspace, tmp_path):
    save_file(under("diffusion_model.", ZIMAGE), tmp_path / "a.safetensors")
    workspace.add(tmp_path / "a.safetensors", "a")
    for tool in ("diffusers", "kohya"):
        out = workspace.export("a", tmp_path / f"{tool}.safetensors", dialect=tool)
        flat = pairs(
            [(f"lora_unet_{name.replace('.', '_')}", *shape) for name, *shape in ZIMAGE],
            "lora_down",
            "lora_up",
            alpha=False,
        )
        close(as_diffusers_reads("ZImage", load_file(out)), as_diffusers_reads("ZImage", flat))


def test_attention_that_flux_and_hunyuan_share_is_said_to_be_of_either(workspace, tmp_path):
    modules = [("double_blocks.0.img_attn.proj", 8, 8)]
    save_file(kohya(modules), tmp_path / "a.safetensors")
    workspace.add(tmp_path / "a.safetensors", "a")
    assert "those of the original Flux or HunyuanVideo" in " ".join(workspace.noticed)
