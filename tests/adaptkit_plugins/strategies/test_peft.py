"""adaptkit_plugins.strategies.peft is PEFT's own arithmetic, bit for bit where PEFT draws nothing."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from peft.utils import merge_utils
from safetensors.numpy import load_file

from adaptkit import Workspace
from adaptkit.adapters.adapter import Adapter
from adaptkit.algebra.lowrank import matrix
from adaptkit.plugin.manager import Plugins
from adaptkit.testing import StrategyConformance
from adaptkit_plugins.strategies import peft as ours

PLUGINS = Plugins.from_environment()
NAMES = [name for name in PLUGINS.names("strategies") if name.startswith("peft:")]
FACTORS = ["peft:linear", "peft:ties", "peft:magnitude_prune"]
WEIGHTS = (0.7, -0.4)


class TestAll(StrategyConformance):
    tolerance = 1e-6  # float32 weights, as torch has them

    @pytest.fixture(params=NAMES)
    def strategy(self, request):
        return PLUGINS.strategy(request.param)


@pytest.fixture
def pair(tiny_llama, tmp_path):
    more = {"r": 4, "target_modules": ["q_proj", "down_proj"]}
    return [
        tiny.save_adapter(tiny_llama, tmp_path / name, seed=seed, lora_alpha=alpha, **more)
        for name, seed, alpha in (("one", 1, 16), ("two", 2, 4))
    ]


@pytest.fixture
def both(pair, tiny_llama, tmp_path):
    """both("ties", …) → (folder of ours, folder of PEFT's)."""

    def make(kind, **options):
        from peft import PeftModel
        from transformers import LlamaForCausalLM

        model = PeftModel.from_pretrained(
            LlamaForCausalLM.from_pretrained(tiny_llama), str(pair[0]), adapter_name="one"
        )
        model.load_adapter(str(pair[1]), adapter_name="two")
        model.add_weighted_adapter(
            ["one", "two"], list(WEIGHTS), "merged", combination_type=kind, **options
        )
        model.save_pretrained(tmp_path / "theirs", selected_adapters=["merged"])
        with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
            ws.merge(
                [f"{f}={w}" for f, w in zip(pair, WEIGHTS, strict=True)],
                out=tmp_path / "ours",
                strategy=f"peft:{kind}",
                params={k: str(v) for k, v in options.items()},
            )
        return tmp_path / "ours", tmp_path / "theirs" / "merged"

    return make


def deltas(folder):
    with Adapter.open(folder) as adapter:
        method = PLUGINS.method_for(adapter)
        return {
            module.key: matrix(method.delta(adapter, module)) for module in method.modules(adapter)
        }


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("linear", {}),
        ("magnitude_prune", {"density": 0.3}),
        ("ties", {"density": 0.5}),
        ("ties", {"density": 0.7, "majority_sign_method": "frequency"}),
    ],
)
def test_factors_have_pefts_bits(kind, options, both):
    mine, theirs = both(kind, **options)
    one, other = (
        load_file(mine / "adapter_model.safetensors"),
        load_file(theirs / "adapter_model.safetensors"),
    )
    assert one.keys() == other.keys()
    assert all(one[key].tobytes() == other[key].tobytes() for key in one)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("svd", {}),
        ("cat", {}),
        ("ties_svd", {"density": 0.5}),
        ("magnitude_prune_svd", {"density": 0.3}),
    ],
)
def test_updates_agree_with_pefts(kind, options, both):
    mine, theirs = both(kind, **options)
    one, other = deltas(mine), deltas(theirs)
    assert one.keys() == other.keys()
    for key, wanted in other.items():
        assert np.linalg.norm(one[key] - wanted) <= 1e-5 * np.linalg.norm(wanted)


@pytest.mark.parametrize(
    ("name", "theirs"), [("peft:dare_linear", "dare_linear"), ("peft:dare_ties", "dare_ties")]
)
def test_dare_is_pefts_where_the_mask_is_the_same(name, theirs, monkeypatch):
    rng = np.random.default_rng(3)
    tensors = [rng.standard_normal((6, 5)).astype(np.float32) for _ in range(3)]
    strategy, weights = PLUGINS.strategy(name), [0.7, -0.4, 1.1]
    generators = [np.random.default_rng(i) for i in range(3)]
    masks = iter(
        [
            torch.from_numpy((np.random.default_rng(i).random((6, 5)) < 0.6).astype(np.float32))
            for i in range(3)
        ]
    )
    monkeypatch.setattr(torch, "bernoulli", lambda _: next(masks))
    wanted = getattr(merge_utils, theirs)(
        [torch.from_numpy(t) for t in tensors], torch.tensor(weights), 0.6
    ).numpy()
    merged = strategy.merge(tensors, weights, strategy.params(density=0.6), generators)
    assert merged.tobytes() == wanted.tobytes()


def test_every_combination_type_of_peft_is_here():
    assert set(NAMES) == {
        f"peft:{kind}"
        for kind in (
            "linear",
            "svd",
            "cat",
            "ties",
            "ties_svd",
            "dare_ties",
            "dare_linear",
            "dare_ties_svd",
            "dare_linear_svd",
            "magnitude_prune",
            "magnitude_prune_svd",
        )
    }
    assert ours.PeftTies.name in FACTORS
