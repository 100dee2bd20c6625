"""Models of timm, through timm's own classes: what is known of them, and LoRA on them against PEFT's own results."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from adaptkit.errors import BakeError

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="pip install timm")

TARGETS = {  # of each model: the layers that a LoRA goes on, and the classifier
    "test_vit": (["qkv", "fc1", "patch_embed.proj"], "head"),
    "test_convnext": (["mlp.fc1", "stem.0"], "head.fc"),
    "test_resnet": (["0.conv1", "0.conv2", "conv1.3"], "fc"),
    "test_efficientnet": (["conv_pw", "conv_stem"], "classifier"),
}


def save(model, folder):
    """As timm saves a model for the Hub."""
    from timm.models import save_for_hf

    save_for_hf(model, str(folder), safe_serialization=True)
    return folder


def create(name, classes):
    """A model of timm, which is imported here: each worker collects these tests, and few run one."""
    import timm

    return timm.create_model(name, num_classes=classes)


def load(folder):
    """As timm loads a folder."""
    config = json.loads((folder / "config.json").read_text())
    model = create(config["architecture"], config["num_classes"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.double().eval()


def values(model):
    torch.manual_seed(7)
    with torch.no_grad():
        return model(torch.rand(2, 3, 160, 160, dtype=torch.float64))


@pytest.fixture(params=TARGETS)
def name(request):
    return request.param


@pytest.fixture
def base(name, tmp_path):
    torch.manual_seed(0)
    return save(create(name, 3), tmp_path / "base")


def adapter(base, name, folder, classes=3, **options):
    targets, head = TARGETS[name]
    torch.manual_seed(1)
    model = load(base).float()
    if classes != 3:
        model.reset_classifier(classes)
    settings = LoraConfig(r=4, target_modules=targets, init_lora_weights=False, **options)
    if classes != 3:
        settings.modules_to_save = [head]
    live = get_peft_model(model, settings)
    live.save_pretrained(folder)
    return live.double().eval()


def test_the_class_tells_the_layers_of_a_model(name, base, workspace):
    found = workspace.check_base(base)
    assert (found.model_class, found.unknown, found.missing, found.unused) == (name, "", (), ())
    assert found.layers["convolution"]
    assert found.head == TARGETS[name][1]


def test_a_lora_is_added_and_baked_as_peft_merges_it(name, base, workspace, tmp_path):
    live = adapter(base, name, tmp_path / "ad", lora_alpha=6)
    assert workspace.add(tmp_path / "ad", "ships", base=str(base)).version.base.status == "verified"
    workspace.bake("ships", base, tmp_path / "out")
    assert torch.allclose(values(load(tmp_path / "out")), values(live), atol=1e-4, rtol=1e-5)
    merged = live.merge_and_unload().state_dict()
    baked = load_file(tmp_path / "out" / "model.safetensors")
    assert baked.keys() == merged.keys()
    for key, tensor in merged.items():
        assert torch.allclose(baked[key].double(), tensor.double(), atol=1e-6), key


def test_a_new_classifier_goes_along_and_changes_the_number_of_classes(
    name, base, workspace, tmp_path
):
    live = adapter(base, name, tmp_path / "ad", classes=5)
    workspace.bake(str(tmp_path / "ad"), base, tmp_path / "out", force=True)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["num_classes"] == 5
    assert torch.allclose(values(load(tmp_path / "out")), values(live), atol=1e-4, rtol=1e-5)


def test_what_a_fine_tune_changed_is_extracted(name, base, workspace, tmp_path):
    torch.manual_seed(2)
    tuned = load(base).float().train()
    with torch.no_grad():
        for key, parameter in tuned.named_parameters():
            if not key.endswith((".bias", ".gamma")):  # --keep-full saves the layers of these whole
                parameter.add_(0.01 * torch.randn_like(parameter))
        tuned(torch.rand(4, 3, 160, 160))  # batch norms take their running means along
    save(tuned.eval(), tmp_path / "tuned")
    report = workspace.extract(
        tmp_path / "tuned", base, out=tmp_path / "ad", rank=512, keep_full=True
    )
    assert not [n for n in report.report.left_out if "running" in n or "norm" in n or "bn" in n]
    live = PeftModel.from_pretrained(load(base).float(), tmp_path / "ad").double().eval()
    left = [n for n in report.report.left_out if not n.endswith("num_batches_tracked")]
    state = dict(load_file(tmp_path / "tuned" / "model.safetensors"))
    before = load_file(base / "model.safetensors")
    whole = load(base)
    whole.load_state_dict({n: before[n] if n in left else t for n, t in state.items()})
    assert torch.allclose(values(live), values(whole.double()), atol=1e-3, rtol=1e-3)
    workspace.bake(str(tmp_path / "ad"), base, tmp_path / "out", force=True)
    assert torch.allclose(values(load(tmp_path / "out")), values(live), atol=1e-3, rtol=1e-3)


def test_where_everything_would_be_saved_whole_extract_says_so(workspace, tmp_path):
    base = save(create("test_vit", 3), tmp_path / "base")
    tuned = load(base).float()
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.01)
    save(tuned, tmp_path / "tuned")
    with pytest.raises(BakeError, match="every layer of it would be saved whole") as caught:
        workspace.extract(tmp_path / "tuned", base, out=tmp_path / "ad", keep_full=True)
    assert caught.value.fix == "leave out --keep-full, or share the tuned model itself"
    report = workspace.extract(tmp_path / "tuned", base, out=tmp_path / "ad", rank=8).report
    assert {"cls_token", "pos_embed", "blocks.0.attn.qkv.bias"} <= set(report.left_out)


def test_running_means_that_moved_are_named(workspace, tmp_path):
    base = save(create("test_resnet", 3), tmp_path / "base")
    tuned = load(base).float()
    with torch.no_grad():
        tuned.fc.weight += 0.1
        tuned.bn1.running_mean += 1.0
    save(tuned, tmp_path / "tuned")
    report = workspace.extract(tmp_path / "tuned", base, out=tmp_path / "ad", rank=3).report
    assert report.left_out == ("bn1.running_mean",)
    assert report.left_out_share > 0.5


@pytest.mark.parametrize(
    "named", ["hf-hub:fleet/ship", "local-dir:/etc", "../vit", "no_such_model"]
)
def test_a_configuration_leads_timm_nowhere_else(named, workspace, tmp_path):
    (tmp_path / "base").mkdir()
    save_file({"head.weight": torch.ones(3, 8)}, tmp_path / "base" / "model.safetensors")
    config = {"architecture": named, "pretrained_cfg": {"file": "/etc/passwd"}}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    assert f"has no model '{named}'" in workspace.check_base(tmp_path / "base").unknown
