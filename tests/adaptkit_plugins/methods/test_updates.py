"""Every method's update is PEFT's own, and depends on the base as far as the method says and no further."""

from __future__ import annotations

import numpy as np
import pytest
import trained_adapters

from adaptkit import Workspace
from adaptkit.adapters.adapter import Adapter
from adaptkit.algebra.lowrank import matrix
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import Unmergeable
from adaptkit.extend import LowRank
from adaptkit.plugin.manager import Plugins
from adaptkit_plugins.methods.tuners import KINDS

PLUGINS = Plugins.from_environment()
CASES = [(kind.peft_type, {}) for kind in KINDS] + [
    ("MISS", {"init_weights": "bat"}),
    ("ADALORA", {}),
    ("LORA", {"use_dora": True}),
    ("LORA", {"init_lora_weights": "pissa", "r": 4}),
    ("LORA", {"init_lora_weights": "olora", "r": 4, "lora_alpha": 4}),
    ("LORA", {"init_lora_weights": "mica", "r": 4}),
    ("LORA", {"kasa_config": {}, "r": 4}),
    ("LOHA", {"r": 2}),
    ("LOHA", {"r": 8}),
    ("LOKR", {"r": 4}),
    ("LOKR", {"r": 2, "decompose_both": True, "decompose_factor": 4}),
    ("LOKR", {"r": 2, "alpha": 5, "alpha_pattern": {"q_proj": 3}}),
    ("IA3", {}),
    ("VERA", {"save_projection": False}),
    ("HIRA", {"r": 4}),
    ("TINYLORA", {"weight_tying": 0.0}),
    ("TINYLORA", {"weight_tying": 0.5, "save_projection": False}),
    ("UNILORA", {"save_indices": True, "target_modules": ["v_proj", "up_proj"]}),
]


@pytest.mark.parametrize(("peft_type", "options"), CASES, ids=[f"{t}-{o}" for t, o in CASES])
def test_the_update_is_pefts_and_needs_what_it_says(peft_type, options, tiny_llama, tmp_path):
    folder = trained_adapters.save(tiny_llama, tmp_path / "a", peft_type, **options)
    before, after = (
        trained_adapters.weights(tiny_llama),
        trained_adapters.merged_by_peft(tiny_llama, folder),
    )
    touched = {
        key for key in after if key in before and not np.array_equal(after[key], before[key])
    }
    with Adapter.open(folder) as adapter, BaseWeights.open(tiny_llama) as base:
        adapter.attach_base(base)
        method = PLUGINS.method_for(adapter)
        method.check(adapter)
        assert method.unmergeable(adapter) == ""
        modules = method.modules(adapter)
        assert {f"{module.name}.weight" for module in modules} == touched
        depends = 0.0
        for module in modules:
            weight = before[f"{module.name}.weight"]
            whole = slice(0, module.shape[0])
            apply = method.applier(adapter, module)
            change = after[f"{module.name}.weight"] - weight
            ours = apply(weight, whole) - weight
            assert np.abs(ours - change).max() <= 1e-5 * max(1.0, np.abs(change).max())
            other = apply(2 * weight + 1, whole) - (2 * weight + 1)
            depends = max(depends, np.abs(other - ours).max() / np.abs(ours).max())
            if method.needs(adapter) != "weights":
                assert np.abs(matrix(method.delta(adapter, module)) - ours).max() <= 1e-9
        assert (depends > 1e-6) == (method.needs(adapter) == "weights")
    if method.needs(adapter) == "nothing":
        with Adapter.open(folder) as adapter:
            assert method.modules(adapter) == modules


def test_loha_is_low_rank_by_the_khatri_rao_product_and_written_out_where_that_is_no_smaller(
    tiny_llama, tmp_path
):
    for rank, low in ((2, True), (8, False)):
        with Adapter.open(
            trained_adapters.save(tiny_llama, tmp_path / str(rank), "LOHA", r=rank)
        ) as adapter:
            method = PLUGINS.method_for(adapter)
            deltas = [method.delta(adapter, module) for module in method.modules(adapter)]
            assert all(isinstance(delta, LowRank) == low for delta in deltas)
            assert all(delta.rank == rank**2 for delta in deltas if isinstance(delta, LowRank))


def test_lokr_is_low_rank_when_a_factor_is(tiny_llama, tmp_path):
    folder = trained_adapters.save(
        tiny_llama, tmp_path / "a", "LOKR", r=1, decompose_both=True, decompose_factor=4
    )
    with Adapter.open(folder) as adapter:
        method = PLUGINS.method_for(adapter)
        assert {method.delta(adapter, module).rank for module in method.modules(adapter)} == {1}


def test_what_names_its_modules_by_a_pattern_is_refused_by_name(tiny_llama, tmp_path):
    folder = trained_adapters.save(tiny_llama, tmp_path / "a", "UNILORA", target_modules=".*q_proj")
    with Adapter.open(folder) as adapter:
        assert "names no modules, and its target_modules is '.*q_proj'" in PLUGINS.method_for(
            adapter
        ).unmergeable(adapter)


@pytest.mark.parametrize(
    "peft_type", ["LOHA", "OFT", "IA3", "VERA", "LN_TUNING", "LORA-DORA", "LORA-PISSA"]
)
def test_baking_is_pefts_own_merge(peft_type, tiny_llama, tmp_path):
    peft_type, _, kind = peft_type.partition("-")
    options = {"": {}, "DORA": {"use_dora": True}, "PISSA": {"init_lora_weights": "pissa", "r": 4}}[
        kind
    ]
    folder = trained_adapters.save(tiny_llama, tmp_path / "a", peft_type, **options)
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        ws.bake(str(folder), tiny_llama, tmp_path / "out", force=True)
    ours, theirs = (
        trained_adapters.weights(tmp_path / "out"),
        trained_adapters.merged_by_peft(tiny_llama, folder),
    )
    assert all(np.abs(ours[key] - theirs[key]).max() < 1e-5 for key in theirs)


def test_lora_with_loha_with_dora_is_the_sum_of_what_each_changes(tiny_llama, tmp_path):
    import tiny

    folders = [
        trained_adapters.save(tiny_llama, tmp_path / "lora", "LORA", 1, r=4),
        trained_adapters.save(tiny_llama, tmp_path / "loha", "LOHA", 2, r=2),
        trained_adapters.save(tiny_llama, tmp_path / "dora", "LORA", 3, r=2, use_dora=True),
    ]
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        sources = [
            f"{folder}={weight}" for folder, weight in zip(folders, (0.5, 1.0, 0.7), strict=True)
        ]
        made = ws.merge(sources, out=tmp_path / "out", base=tiny_llama, rank=32)
        with pytest.raises(Unmergeable, match="without its base"):
            ws.merge(sources, out=tmp_path / "none", rank=32)
    assert made.report.error.total < 1e-6
    before = trained_adapters.weights(tiny_llama)
    wanted = dict(before)
    for folder, weight in zip(folders, (0.5, 1.0, 0.7), strict=True):
        after = trained_adapters.merged_by_peft(tiny_llama, folder)
        wanted = {key: wanted[key] + weight * (after[key] - before[key]) for key in before}
    merged = trained_adapters.merged_by_peft(tiny_llama, tmp_path / "out")
    assert all(np.abs(merged[key] - wanted[key]).max() < 1e-5 for key in wanted)
    tiny.reload_strictly(tiny.llama(), tmp_path / "out")


def test_ia3_stays_ia3_as_one_plus_the_sum_of_its_changes(tiny_llama, tmp_path):
    from safetensors.numpy import load_file

    folders = [
        trained_adapters.save(tiny_llama, tmp_path / f"a{seed}", "IA3", seed) for seed in (1, 2)
    ]
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        made = ws.merge([f"{folders[0]}=0.5", str(folders[1])], out=tmp_path / "out")
        assert (made.report.rank, made.manifest.method) == (None, "ia3")
        one, two, out = (
            load_file(f / "adapter_model.safetensors") for f in (*folders, tmp_path / "out")
        )
        for key, value in out.items():
            assert np.abs(value - (1 + 0.5 * (one[key] - 1) + (two[key] - 1))).max() < 1e-6
        trained_adapters.merged_by_peft(tiny_llama, tmp_path / "out")


def test_ln_tuning_merges_at_weights_that_add_up_to_one(tiny_llama, tmp_path):
    folders = [
        trained_adapters.save(tiny_llama, tmp_path / f"a{seed}", "LN_TUNING", seed)
        for seed in (1, 2)
    ]
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        with pytest.raises(Unmergeable, match="must add up to 1, and these add up to 2"):
            ws.merge([str(folder) for folder in folders], out=tmp_path / "none")
        ws.merge([str(folder) for folder in folders], out=tmp_path / "out", normalize=True)
        for rank in (None, 4):
            with pytest.raises(Unmergeable) as caught:
                ws.convert(str(folders[0]), rank=rank, base=tiny_llama, out=tmp_path / "lora")
            assert "cannot write" in caught.value.summary
            assert "changes no matrix, and low-rank updates are for matrices" in caught.value.why
    before, one, two, ours = (
        trained_adapters.weights(tiny_llama),
        *(trained_adapters.merged_by_peft(tiny_llama, f) for f in (*folders, tmp_path / "out")),
    )
    assert all(np.abs(ours[key] - (one[key] + two[key]) / 2).max() < 1e-6 for key in before)
