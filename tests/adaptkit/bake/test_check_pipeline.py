"""`bake --check` of a pipeline: each changed component against diffusers' own pipeline with the live adapter."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec

import pipelines
import pytest
from command_line import run, run_process

from adaptkit.bake.check_pipeline import check_pipeline
from adaptkit.errors import BakeError

pytestmark = pytest.mark.skipif(find_spec("diffusers") is None, reason="pip install diffusers")

PROMPT = "a ship at night"
PARTS = ("unet", "text_encoder", "text_encoder_2")


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    words = pipelines.words(*PROMPT.split())
    return pipelines.make(tmp_path_factory.mktemp("xl") / "xl", xl=True, tokenizer=words)


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    words = pipelines.words(*PROMPT.split())
    return pipelines.make(tmp_path_factory.mktemp("sd") / "sd", tokenizer=words)


def test_every_changed_component_is_compared_and_named(xl, workspace, tmp_path):
    file = pipelines.kohya(tmp_path / "style.safetensors", pipelines.modules(*PARTS))
    workspace.add(file, "style", base=str(xl))
    baked = workspace.bake("style", xl, tmp_path / "out", check=PROMPT)
    assert baked.components_apart.keys() == set(PARTS)
    assert all(apart < 1e-4 for apart in baked.components_apart.values())
    assert baked.apart is None


def test_a_pipeline_that_was_baked_from_another_adapter_fails(sd, workspace, tmp_path):
    parts = pipelines.modules("unet", "text_encoder")
    one = pipelines.lora(tmp_path / "one.safetensors", parts)
    other = pipelines.lora(tmp_path / "other.safetensors", parts, seed=2)
    workspace.bake(str(one), sd, tmp_path / "out")
    assert check_pipeline(sd, one, tmp_path / "out", PROMPT)["unet"] < 1e-4
    with pytest.raises(BakeError) as caught:
        check_pipeline(sd, other, tmp_path / "out", PROMPT)
    assert "out does not answer like the live adapter" in caught.value.what
    assert caught.value.why.startswith("outputs of its text_encoder differ by ")
    with pytest.raises(BakeError, match="does not answer like the live adapter"):
        check_pipeline(sd, one, sd, PROMPT)  # nothing was baked at all


def test_a_command_prints_each_component_and_nothing_of_the_libraries(sd, workspace, tmp_path):
    file = pipelines.lora(tmp_path / "style.safetensors", pipelines.modules("unet"))
    home = {"ADAPTKIT_HOME": str(workspace.home.path)}
    bake = ["bake", file, "--base", sd, "--check", PROMPT, "--out"]
    done = run_process([*bake, tmp_path / "out"], tmp_path, **home)
    assert done.returncode == 0, done.stderr
    assert "  1 tensor changed, " in done.stdout
    assert "  output of unet within " in done.stdout
    assert [line for line in done.stderr.splitlines() if not line.startswith("warning: ")] == []
    shown = json.loads(run([*bake, tmp_path / "again", "--json"], tmp_path, **home).stdout)
    assert shown["logits_apart"] is None
    assert shown["components_apart"].keys() == {"unet"}


def test_half_precision_is_allowed_its_rounding(sd, workspace, tmp_path):
    file = pipelines.lora(tmp_path / "style.safetensors", pipelines.modules("unet"))
    baked = workspace.bake(str(file), sd, tmp_path / "out", dtype="bfloat16", check=PROMPT)
    assert 1e-5 < baked.components_apart["unet"] < 0.1


def test_a_pipeline_of_which_a_component_is_stored_as_a_variant_is_compared(
    sd, workspace, tmp_path
):
    base = shutil.copytree(sd, tmp_path / "base")
    encoder = base / "text_encoder"
    (encoder / "model.safetensors").rename(encoder / "model.fp16.safetensors")
    parts = pipelines.modules("unet", "text_encoder")
    file = pipelines.lora(tmp_path / "style.safetensors", parts)
    baked = workspace.bake(str(file), base, tmp_path / "out", check=PROMPT)
    assert (tmp_path / "out" / "text_encoder" / "model.fp16.safetensors").is_file()
    assert max(baked.components_apart.values()) < 1e-4


def test_a_pipeline_that_cannot_run_never_gets_its_name(sd, workspace, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    for part in sd.iterdir():
        if part.name != "vae":
            (base / part.name).symlink_to(part)
    file = pipelines.lora(tmp_path / "style.safetensors", pipelines.modules("unet"))
    with pytest.raises(BakeError) as caught:
        workspace.bake(str(file), base, tmp_path / "out", check=PROMPT)
    assert "out.failed could not be checked" in caught.value.what
    assert "leave out --check" in caught.value.fix
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.failed" / "model_index.json").is_file()


def test_a_pipeline_without_a_tokenizer_is_refused_before_anything_is_written(workspace, tmp_path):
    base = pipelines.make(tmp_path / "base")
    file = pipelines.lora(tmp_path / "style.safetensors", pipelines.modules("unet"))
    with pytest.raises(BakeError) as caught:
        workspace.bake(str(file), base, tmp_path / "out", check=PROMPT)
    assert caught.value.what == f"cannot check a pipeline baked into {base}"
    assert "its model_index.json names none" in caught.value.why
    assert not list(tmp_path.glob("out*"))


def test_an_adapter_that_diffusers_cannot_load_is_refused(sd, workspace, tmp_path, monkeypatch):
    file = pipelines.lora(tmp_path / "style.safetensors", pipelines.modules("unet"))
    workspace.add(file, "style", base=str(sd))
    for method in workspace.plugins.methods():
        monkeypatch.setattr(type(method), "dialects", (), raising=False)
    with pytest.raises(BakeError) as caught:
        workspace.bake("style", sd, tmp_path / "out", check=PROMPT)
    assert caught.value.what.startswith("cannot check a bake of style")
    assert "diffusers itself cannot load such an adapter" in caught.value.why
    assert not list(tmp_path.glob("out*"))
