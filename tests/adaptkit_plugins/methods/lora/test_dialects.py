"""What kohya's scripts and diffusers write is read as diffusers reads it, and written so that diffusers reads it."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from adaptkit.adapters.adapter import Adapter
from adaptkit.algebra.lowrank import matrix
from adaptkit.errors import AdaptkitError, BadAdapter, NotFound, Unmergeable
from adaptkit.plugin.manager import Plugins
from adaptkit_plugins.methods.lora.names import dotted

PLUGINS = Plugins.from_environment()
TARGETS = ["to_q", "to_out.0", "proj_in", "conv1", "time_emb_proj"]


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    """A tiny U-Net's folder."""
    diffusers = pytest.importorskip("diffusers", reason="pip install diffusers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = diffusers.UNet2DConditionModel(
            block_out_channels=(4, 8),
            layers_per_block=1,
            sample_size=8,
            in_channels=4,
            out_channels=4,
            norm_num_groups=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=2,
        )
        folder = tmp_path_factory.mktemp("unet")
        model.save_pretrained(folder)
    return folder


def load_unet(folder):
    import diffusers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return diffusers.UNet2DConditionModel.from_pretrained(folder)


@pytest.fixture(scope="module")
def native(unet, tmp_path_factory):
    """A PEFT directory on the U-Net, and what each module's weight gains."""
    folder = tmp_path_factory.mktemp("native")
    model = load_unet(unet)
    tiny.make_adapter(
        model,
        folder,
        1,
        r=4,
        lora_alpha=6,
        target_modules=TARGETS,
        rank_pattern={"proj_in": 2},
        alpha_pattern={"to_q": 3},
    )
    with Adapter.open(folder) as adapter:
        method = PLUGINS.method_for(adapter)
        return folder, {m.name: matrix(method.delta(adapter, m)) for m in method.modules(adapter)}


def gained(unet, state, **how):
    """What diffusers' own loader makes of a file's tensors: the change of every weight."""
    from diffusers.loaders import StableDiffusionLoraLoaderMixin as Loader

    model = load_unet(unet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, alphas = Loader.lora_state_dict(state, unet_config=model.config)
        Loader.load_lora_into_unet(found, network_alphas=alphas, unet=model, adapter_name="one")
    changes = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            changes[name] = module.get_delta_weight("one").detach().numpy()
    return changes


def close(found, wanted):
    assert found.keys() == wanted.keys()
    assert found
    for name, value in wanted.items():
        assert np.abs(found[name].reshape(value.shape) - value).max() <= 1e-5 * max(
            1.0, np.abs(value).max()
        ), name


def torch_state(file):
    import torch

    return {key: torch.from_numpy(value) for key, value in load_file(file).items()}


@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
def test_diffusers_reads_what_is_exported_as_the_same_update(
    dialect, native, unet, workspace, tmp_path
):
    folder, wanted = native
    workspace.add(folder, name="style")
    file = workspace.export("style", tmp_path / "out", dialect=dialect)
    close(gained(unet, torch_state(file)), wanted)


@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
def test_what_was_exported_comes_back_as_the_same_update(
    dialect, native, unet, workspace, tmp_path
):
    folder, wanted = native
    workspace.add(folder, name="style")
    file = workspace.export("style", tmp_path / "out", dialect=dialect)
    workspace.add(file if dialect == "kohya" else file.parent, name="back")
    shown = workspace.show("back")
    assert shown.manifest.facts["converted_from"]["dialect"] == dialect
    with Adapter.open(workspace.path("back")) as adapter:
        method = PLUGINS.method_for(adapter)
        found = {m.name: matrix(method.delta(adapter, m)) for m in method.modules(adapter)}
    close(found, {f"unet.{name}": value for name, value in wanted.items()})
    again = workspace.export("back", tmp_path / "again", dialect=dialect)
    close(gained(unet, torch_state(again)), wanted)


def test_a_file_of_kohya_merges_with_one_of_diffusers(native, unet, workspace, tmp_path):
    folder, wanted = native
    workspace.add(folder, name="style")
    one = workspace.export("style", tmp_path / "k", dialect="kohya")
    other = load_file(one)
    two = tmp_path / "two.safetensors"
    save_file({key: value * 2 if "lora_up" in key else value for key, value in other.items()}, two)
    workspace.merge([str(one), f"{two}=0.5"], name="both")
    file = workspace.export("both", tmp_path / "out", dialect="diffusers")
    close(gained(unet, torch_state(file)), {name: 2 * value for name, value in wanted.items()})


def test_a_missing_alpha_is_the_rank_and_an_old_processor_is_its_layer(unet, tmp_path, workspace):
    rng = np.random.default_rng(0)
    site = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor"
    tensors = {
        f"{site}.{which}_lora.{side}.weight": rng.standard_normal(shape).astype(np.float32)
        for which in ("to_q", "to_out")
        for side, shape in (("down", (2, 8)), ("up", (8, 2)))
    }
    save_file(tensors, tmp_path / "old.safetensors")
    workspace.add(tmp_path / "old.safetensors", name="old")
    with Adapter.open(workspace.path("old")) as adapter:
        method = PLUGINS.method_for(adapter)
        found = {m.name: matrix(method.delta(adapter, m)) for m in method.modules(adapter)}
    attention = "unet.mid_block.attentions.0.transformer_blocks.0.attn1"
    close(
        found,
        {
            f"{attention}.{layer}": tensors[f"{site}.{which}_lora.up.weight"]
            @ tensors[f"{site}.{which}_lora.down.weight"]
            for which, layer in (("to_q", "to_q"), ("to_out", "to_out.0"))
        },
    )


def test_every_name_of_kohya_goes_back_to_itself_and_those_of_pipelines_to_their_modules(unet):
    names = [
        name.rpartition(".")[0] for name in load_file(unet / "diffusion_pytorch_model.safetensors")
    ]
    assert [name for name in names if dotted(name.replace(".", "_"), None)[0] != name] == []
    for name in (
        "text_model.encoder.layers.11.self_attn.out_proj",
        "text_model.encoder.layers.0.mlp.fc1",
        "single_transformer_blocks.3.attn.to_q",
        "transformer_blocks.0.attn.add_k_proj",
        "double_blocks.0.img_attn.qkv",
        "single_blocks.7.linear1",
    ):
        assert dotted(name.replace(".", "_"), None)[0] == name
    assert dotted("strange_own_name", None)[0].replace(".", "_") == "strange_own_name"
    assert dotted("strange_own_name", {"strange.own_name.weight": ()}) == (
        "strange.own_name",
        False,
    )


def test_unsloths_order_of_experts_becomes_pefts(tmp_path, workspace):
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        intermediate_size=24,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = tiny.make_adapter(
            MixtralForCausalLM(config),
            tmp_path / "peft",
            1,
            r=3,
            target_modules=[],
            target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        )
    right = load_file(folder / "adapter_model.safetensors")
    slow = {
        key: value.reshape(len(value), 3, 4).transpose(0, 2, 1).reshape(value.shape)
        if "lora_B" in key
        else value
        for key, value in right.items()
    }
    save_file(
        {key: np.ascontiguousarray(value) for key, value in slow.items()},
        folder / "adapter_model.safetensors",
    )
    workspace.add(folder, name="moe", dialect="unsloth")
    ours = load_file(workspace.path("moe") / "adapter_model.safetensors")
    assert all(np.array_equal(ours[key], right[key]) for key in right)


def test_what_another_tool_cannot_say_is_refused_by_name(lora_pair, native, workspace, tmp_path):
    workspace.add(lora_pair[0], name="naval")
    cases = [
        (
            lambda: workspace.export("naval", tmp_path / "a", dialect="kohya"),
            Unmergeable,
            "belongs to none of its parts",
        ),
        (
            lambda: workspace.export("naval", tmp_path / "b", dialect="khoya"),
            NotFound,
            "no tool called 'khoya': known are kohya",
        ),
        (
            lambda: workspace.export("naval", tmp_path / "c", dialect="unsloth"),
            Unmergeable,
            "unsloth is only read",
        ),
        (
            lambda: workspace.add(lora_pair[0], name="x", dialect="unsloth"),
            Unmergeable,
            "no fused experts",
        ),
        (
            lambda: workspace.add(tmp_path / "odd.safetensors", name="x"),
            BadAdapter,
            "nothing knows what .*odd.* is",
        ),
        (
            lambda: workspace.add(tmp_path / "lycoris.safetensors", name="x"),
            AdaptkitError,
            "has no hada_w1_b",
        ),
        (
            lambda: workspace.add(tmp_path / "dora.safetensors", name="x"),
            Unmergeable,
            "it rescales columns",
        ),
        (
            lambda: workspace.add(tmp_path / "half.safetensors", name="x"),
            AdaptkitError,
            "has no lora_B",
        ),
    ]
    weight = np.zeros((2, 4), np.float32)
    pair = {
        "lora_unet_a.lora_down.weight": weight,
        "lora_unet_a.lora_up.weight": np.zeros((3, 2), np.float32),
    }
    save_file({"odd": weight}, tmp_path / "odd.safetensors")
    save_file({"lora_unet_a.hada_w1_a": weight}, tmp_path / "lycoris.safetensors")
    save_file(
        pair | {"lora_unet_a.dora_scale": np.ones((1, 4), np.float32)},
        tmp_path / "dora.safetensors",
    )
    save_file({"lora_unet_a.lora_down.weight": weight}, tmp_path / "half.safetensors")
    for act, kind, message in cases:
        with pytest.raises(kind) as caught:
            act()
        assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)
    assert [version.name for version in workspace.list()] == ["naval"]
