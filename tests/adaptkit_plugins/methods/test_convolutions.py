"""Adapters on convolutions of one to three dimensions: merged as PEFT's own layers have them, or refused."""

from __future__ import annotations

import warnings

import pytest
import tiny

from adaptkit.errors import Unmergeable

# PEFT warns of groups and of each Conv1D; warnings are errors here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def net():
    """Makes a network of convolutions, always with the same weights."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1 = nn.Conv1d(4, 6, 3, padding=1)
            self.c2 = nn.Conv2d(4, 6, 3, padding=1)
            self.c3 = nn.Conv3d(2, 4, (1, 2, 2))
            self.g1 = nn.Conv1d(4, 6, 3, padding=1, groups=2)

        def forward(self, x, y, z):
            return torch.cat(
                [
                    self.c1(x).flatten(),
                    self.c2(y).flatten(),
                    self.c3(z).flatten(),
                    self.g1(x).flatten(),
                ]
            )

    def make():
        torch.manual_seed(0)
        return Net()

    return make


def inputs():
    import torch

    torch.manual_seed(5)
    return torch.randn(1, 4, 7), torch.randn(1, 4, 5, 5), torch.randn(1, 2, 3, 4, 4)


def saved(net, config, folder):
    import peft
    import torch

    model = peft.get_peft_model(net(), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        model.save_pretrained(folder)
        return model.eval()(*inputs())


@pytest.mark.parametrize("layer", ["c1", "c2", "c3", "g1"])
def test_lora_on_a_convolution_merges_and_reloads(layer, net, workspace, tmp_path):
    import torch
    from peft import LoraConfig, PeftModel

    want = saved(net, LoraConfig(r=2, target_modules=[layer]), tmp_path / "ad")
    workspace.add(tmp_path / "ad", "conv")
    workspace.merge({"conv": 1.0}, out=tmp_path / "out")
    again = PeftModel.from_pretrained(net(), tmp_path / "out").eval()(*inputs())
    assert torch.allclose(again, want, atol=1e-5)


@pytest.mark.parametrize("layer", ["c1", "c2"])
def test_loha_on_a_layer_that_only_the_base_tells_is_refused_without_it(
    layer, net, workspace, tmp_path
):
    from peft import LoHaConfig

    saved(net, LoHaConfig(r=2, target_modules=[layer]), tmp_path / "ad")
    workspace.add(tmp_path / "ad", "hada")  # kept, shown and pushed all the same
    with pytest.raises(Unmergeable, match="depends on the base's shapes of the weights"):
        workspace.merge({"hada": 1.0}, out=tmp_path / "out")


@pytest.mark.parametrize("kind", ["LoHaConfig", "LoKrConfig"])
@pytest.mark.parametrize("layer", ["c1", "c2"])
def test_with_its_base_it_merges_as_the_convolution_it_is(kind, layer, net, workspace, tmp_path):
    import peft
    import torch
    from safetensors.torch import save_file

    base = tmp_path / "base"
    base.mkdir()
    save_file(net().state_dict(), base / "model.safetensors", {"format": "pt"})
    (base / "config.json").write_text("{}")
    want = saved(net, getattr(peft, kind)(r=2, target_modules=[layer]), tmp_path / "ad")
    workspace.merge({tmp_path / "ad": 1.0}, base=base, out=tmp_path / "out")
    again = peft.PeftModel.from_pretrained(net(), tmp_path / "out").eval()(*inputs())
    assert torch.allclose(again, want, atol=1e-5)
    workspace.bake(str(tmp_path / "ad"), base, tmp_path / "baked", force=True)
    from safetensors.torch import load_file

    model = net()
    model.load_state_dict(load_file(tmp_path / "baked" / "model.safetensors"))
    assert torch.allclose(model.eval()(*inputs()), want, atol=1e-5)


def test_each_layer_of_gpt2_is_the_way_round_that_its_class_says(workspace, tmp_path):
    import architectures
    import torch

    base = architectures.make("gpt2", tmp_path / "base", tie=False)
    live = architectures.load("gpt2", base).float()
    tiny.make_adapter(live, tmp_path / "ad", 0, target_modules=["attn.c_proj", "lm_head"])
    workspace.bake(str(tmp_path / "ad"), base, tmp_path / "out", force=True)
    baked = architectures.outputs("gpt2", architectures.load("gpt2", tmp_path / "out"))
    assert torch.allclose(baked, architectures.outputs("gpt2", live.double()), atol=1e-5)


def test_an_empty_list_of_an_ia3_config_stays_one(net, workspace, tmp_path):
    import peft

    saved(net, peft.IA3Config(target_modules=["c2"], feedforward_modules=[]), tmp_path / "ad")
    workspace.merge({tmp_path / "ad": 1.0}, out=tmp_path / "out")
    assert tiny.read_config(tmp_path / "out")["feedforward_modules"] == []
    peft.PeftModel.from_pretrained(net(), tmp_path / "out")
