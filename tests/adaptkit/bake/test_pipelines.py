"""Whole diffusers pipelines as bases: what is in them, what fits, and bakes against diffusers' own fuse_lora."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import nullcontext
from importlib.util import find_spec

import pipelines
import pytest
import torch
from command_line import run
from concurrency import killed

from adaptkit import Workspace
from adaptkit.bases.identity import measure
from adaptkit.errors import BadBase, BakeError, BaseMismatch
from adaptkit.training.base_model import load_model, load_tokenizer

pytestmark = pytest.mark.skipif(find_spec("diffusers") is None, reason="pip install diffusers")


@pytest.fixture(scope="session")
def sd(tmp_path_factory):
    return pipelines.make(tmp_path_factory.mktemp("sd") / "sd")


@pytest.fixture(scope="session")
def xl(tmp_path_factory):
    return pipelines.make(tmp_path_factory.mktemp("xl") / "xl", xl=True)


@pytest.fixture
def copy(sd, tmp_path):
    return shutil.copytree(sd, tmp_path / "copy")


def test_a_pipeline_is_not_run_as_a_language_model(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    for load in (load_model, load_tokenizer):
        with pytest.raises(BadBase, match="it is a diffusers pipeline"):
            load(tmp_path)


def close(found, wanted):
    assert found.keys() == wanted.keys()
    apart = {n: (found[n].float() - wanted[n].float()).abs().max().item() for n in wanted}
    assert max(apart.values()) < 1e-5, max(apart, key=apart.get)


def test_kohyas_lora_goes_into_unet_and_both_text_encoders_as_diffusers_fuses_it(
    xl, workspace, tmp_path
):
    parts = pipelines.modules("unet", "text_encoder", "text_encoder_2")
    file = pipelines.kohya(tmp_path / "style.safetensors", parts)
    added = workspace.add(file, "style", base=str(xl))
    assert added.version.base.status == "verified"
    baked = workspace.bake("style", xl, tmp_path / "out").report
    assert sorted(baked.changed) == sorted(f"{name}.weight" for name in parts)
    assert baked.model_class == "StableDiffusionXLPipeline"
    close(pipelines.weights(tmp_path / "out"), pipelines.weights(xl, file))


def test_everything_else_of_a_pipeline_is_copied(sd, workspace, tmp_path, monkeypatch):
    file = pipelines.lora(tmp_path / "style.safetensors", pipelines.modules("unet"))
    synced, fsync = [], os.fsync

    def note(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}").replace(".partial", ""))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    workspace.bake(str(file), sd, tmp_path / "out")
    folders = [p for p in (tmp_path / "out").rglob("*") if p.is_dir()]
    assert {str(p) for p in (tmp_path / "out", *folders)} <= set(synced)
    close(pipelines.weights(tmp_path / "out"), pipelines.weights(sd, file))
    files = {p.relative_to(sd) for p in sd.rglob("*") if p.is_file()}
    assert {p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.*")} == files
    changed = {
        str(path)
        for path in files
        if (sd / path).read_bytes() != (tmp_path / "out" / path).read_bytes()
    }
    assert len(changed) == 1
    assert next(iter(changed)).startswith("unet/diffusion_pytorch_model-0000")


def test_a_pipeline_is_baked_in_another_dtype_with_an_index_for_each_component(
    sd, workspace, tmp_path
):
    file = pipelines.lora(tmp_path / "style.safetensors", pipelines.modules("unet"))
    planned = workspace.bake_plan(str(file), sd, dtype="bfloat16")
    baked = workspace.bake(str(file), sd, tmp_path / "out", dtype="bfloat16").report
    assert (planned.files, planned.nbytes) == (baked.files, baked.nbytes)
    name = "unet/diffusion_pytorch_model.safetensors.index.json"
    before, after = (json.loads((f / name).read_text()) for f in (sd, tmp_path / "out"))
    assert after["weight_map"] == before["weight_map"]
    assert after["metadata"]["total_size"] * 2 == before["metadata"]["total_size"]
    config = json.loads((tmp_path / "out" / "text_encoder" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert "dtype" not in json.loads((tmp_path / "out" / "unet" / "config.json").read_text())
    found, wanted = pipelines.weights(tmp_path / "out"), pipelines.weights(sd, file)
    assert all((found[n].float() - wanted[n]).abs().max() < 0.05 for n in wanted)


def test_merges_and_extracts_of_pipelines_are_right(sd, workspace, tmp_path):
    one = pipelines.lora(tmp_path / "a.safetensors", pipelines.modules("unet", "text_encoder"))
    two = pipelines.lora(tmp_path / "b.safetensors", pipelines.modules("unet"), seed=2)
    for file in (one, two):
        workspace.add(file, file.stem, base=str(sd))
    workspace.merge(["a=1", "b=0.5"], name="both", base=sd, missing="zero")
    workspace.bake("both", sd, tmp_path / "baked")
    workspace.merge_into_model(["a=1", "b=0.5"], sd, tmp_path / "at-once", missing="zero")
    wanted = pipelines.weights(tmp_path / "baked")
    close(pipelines.weights(tmp_path / "at-once"), wanted)
    workspace.extract(tmp_path / "baked", sd, rank=4, name="back")
    file = workspace.export("back", tmp_path / "back.safetensors", dialect="diffusers")
    close(pipelines.weights(sd, file), wanted)


def test_identity_is_made_of_what_adapters_change(sd, copy):
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert measure(copy).levels == measure(sd).levels
    shutil.copy(
        sd / "unet" / "config.json", copy / "unet" / "readme.json"
    )  # files that hold no weights count for nothing
    assert measure(copy).levels == measure(sd).levels
    part = copy / "text_encoder" / "model.safetensors"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    changed = measure(copy)
    assert changed.level("as1") == measure(sd).level("as1")
    assert changed.level("tm1") != measure(sd).level("tm1")


def test_base_add_and_check_show_the_components(sd, workspace, tmp_path):
    called, identity = workspace.add_base(str(sd))
    assert (called, len(identity.levels)) == ("sd", 3)
    shown = run(["base", "check", sd], tmp_path, ADAPTKIT_HOME=str(workspace.home.path)).stdout
    assert "sd  StableDiffusionPipeline" in shown
    assert "  unet: UNet2DConditionModel" in shown
    assert "  text_encoder: CLIPTextModel" in shown


def test_what_a_pipeline_lacks_is_named(sd, workspace, tmp_path):
    parts = pipelines.modules("unet", "text_encoder", "text_encoder_2")
    file = pipelines.kohya(tmp_path / "style.safetensors", parts)
    with pytest.raises(BaseMismatch) as caught:
        workspace.add(file, "style", base=str(sd))
    assert caught.value.why == (
        "it changes the text_encoder_2 of a pipeline, and this pipeline has text_encoder, unet only"
    )
    assert "adaptkit strip REF --modules 'text_encoder_2.*'" in caught.value.fix
    with pytest.raises(BakeError, match="it changes the text_encoder_2 of a pipeline"):
        workspace.bake(str(file), sd, tmp_path / "out", force=True)
    with pytest.raises(BakeError, match="this is a UNet2DConditionModel alone"):
        workspace.bake(str(file), sd / "unet", tmp_path / "out", force=True)
    assert not list(tmp_path.glob("out*"))


def test_a_pipeline_is_found_where_the_adapters_config_names_its_folder(sd, workspace, tmp_path):
    file = pipelines.lora(tmp_path / "style.safetensors", pipelines.modules("unet"))
    folder = tmp_path / "adapter"
    workspace.merge([str(file)], out=folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "sd").symlink_to(sd)
    config["base_model_name_or_path"] = "sd"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    assert workspace.add(folder, "named").version.base.status == "verified"


def test_two_text_encoders_never_end_in_one(xl, workspace, tmp_path):
    parts = pipelines.modules("text_encoder", "text_encoder_2")
    file = pipelines.lora(tmp_path / "style.safetensors", parts)
    with pytest.raises(BakeError, match="and 'text_encoder_2.* both mean 'text_model"):
        workspace.bake(str(file), xl / "text_encoder", tmp_path / "out", force=True)


def test_a_pipeline_without_one_of_its_components_is_incomplete(copy, workspace):
    shutil.rmtree(copy / "text_encoder")
    with pytest.raises(BadBase, match="names text_encoder, and that folder is missing"):
        workspace.check_base(copy)
    (copy / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderKL"]}')
    with pytest.raises(BadBase, match="names no unet, transformer or text encoder"):
        workspace.check_base(copy)


def test_one_quantised_component_keeps_a_pipeline_from_being_baked(copy, workspace, tmp_path):
    file = pipelines.lora(tmp_path / "style.safetensors", pipelines.modules("unet"))
    config = json.loads((copy / "unet" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (copy / "unet" / "config.json").write_text(json.dumps(config))
    assert workspace.check_base(copy).quantised == "bitsandbytes"
    with pytest.raises(BakeError, match=r"its weights are quantised \(bitsandbytes\)"):
        workspace.bake(str(file), copy, tmp_path / "out", force=True)


def test_a_component_that_has_one_variant_only_is_read(sd, copy, workspace, tmp_path):
    encoder = copy / "text_encoder"
    (encoder / "model.safetensors").rename(encoder / "model.fp16.safetensors")
    assert measure(copy).level("tm1") == measure(sd).level("tm1")
    shutil.copy(encoder / "model.fp16.safetensors", encoder / "model.bf16.safetensors")
    with pytest.raises(BadBase, match=r"several variants of a model\n|model.bf16.safetensors"):
        workspace.check_base(copy)


def test_a_bake_into_a_pipeline_goes_on_where_it_was_killed(sd, workspace, tmp_path):
    file = pipelines.lora(tmp_path / "style.safetensors", pipelines.modules("unet"))

    def killed_in_between():
        count = 0

        def watch(_):
            nonlocal count
            count += 1
            if count > 100:  # tensors; the text encoder's are fewer
                os.kill(os.getpid(), signal.SIGKILL)

        def watching(what, _total, _unit=""):
            return nullcontext(watch if what.startswith("baking") else lambda _: None)

        with Workspace.open(workspace.home.path, notify=lambda _: None, watch=watching) as opened:
            opened.bake(str(file), sd, tmp_path / "out", workers=1)

    killed(killed_in_between, 60.0)
    assert not (tmp_path / "out").exists()
    assert workspace.bake(str(file), sd, tmp_path / "out").report.resumed > 0
    close(pipelines.weights(tmp_path / "out"), pipelines.weights(sd, file))


def test_a_new_token_of_one_text_encoder_leaves_the_other_as_it_is(xl, workspace, tmp_path):
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    name = "text_model.embeddings.token_embedding.weight"
    for part, other in (("text_encoder", "text_encoder_2"), ("text_encoder_2", "text_encoder")):
        before = load_file(xl / part / "model.safetensors")[name]
        rows = torch.cat([before, torch.ones(2, 8)])
        adapter = tmp_path / part
        file = pipelines.lora(tmp_path / f"{part}.safetensors", pipelines.modules(part))
        tensors = {f"base_model.model.{key}": t for key, t in load_file(file).items()}
        tensors[f"base_model.model.{part}.{name}"] = rows
        adapter.mkdir()
        save_file(tensors, adapter / "adapter_model.safetensors")
        settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "task_type": None}
        settings |= {
            "target_modules": ["q_proj", "out_proj"],
            "modules_to_save": ["token_embedding"],
        }
        (adapter / "adapter_config.json").write_text(json.dumps(settings))
        out = tmp_path / f"{part}-baked"
        workspace.bake(str(adapter), xl, out, force=True)
        configs = {p: json.loads((out / p / "config.json").read_text()) for p in (part, other)}
        assert (configs[part]["vocab_size"], configs[other]["vocab_size"]) == (66, 64)
        for one, cls in (
            ("text_encoder", CLIPTextModel),
            ("text_encoder_2", CLIPTextModelWithProjection),
        ):
            loaded = cls.from_pretrained(out / one).get_input_embeddings().weight
            assert torch.equal(
                loaded, rows if one == part else load_file(xl / one / "model.safetensors")[name]
            )
