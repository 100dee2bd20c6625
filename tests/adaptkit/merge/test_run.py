"""Merging, with PEFT's own layers and float64 as oracles."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tiny

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.bases.weights import BaseWeights
from adaptkit.errors import BadRecipe, ExtrasConflict, MergeError, NotFound, Unmergeable
from adaptkit.extend import Moment
from adaptkit.merge import recipe
from adaptkit.merge import run as merge
from adaptkit.plugin.manager import Plugins
from adaptkit.types import Parent


@pytest.fixture(scope="session")
def plugins():
    return Plugins.from_environment()


def measured(seed):
    """Moments as if somebody had measured them, the same for the same module."""

    def moment(module, size):
        rng = np.random.default_rng([seed, size, len(module)])
        return Moment(rng.random(size), rng.standard_normal((size, 3)))

    return moment


@pytest.fixture
def merged(tmp_path, plugins):
    """merged([(folder, weight), …], strategy=…) → (folder of the result, report)."""
    count = iter(range(100))

    def run(pairs, strategy="linear", workers=None, weights=None, weights_by_module=(), **choices):
        adapters = [
            Adapter.open(folder, base_shapes=weights and weights.shapes) for folder, _ in pairs
        ]
        sources = [
            OpenAdapter(a, plugins.method_for(a), f"sha256:{i}", weights)
            for i, a in enumerate(adapters)
        ]
        parents = [
            Parent(s.digest, w, label=s.label) for s, (_, w) in zip(sources, pairs, strict=True)
        ]
        plan = plugins.strategy(strategy)
        if plan.needs == "moments":
            sources = [replace(s, moment=measured(i)) for i, s in enumerate(sources)]
        out = tmp_path / f"out{next(count)}"
        out.mkdir()
        try:
            made = recipe.resolve(
                plan,
                parents,
                weights_by_module or [{} for _ in pairs],
                recipe.Choices(**choices),
            )
            return out, merge.run(
                made, plan, sources, out, workers=workers, method=plugins.packing_method()
            )
        finally:
            for adapter in adapters:
                adapter.close()

    return run


def deltas(folder, plugins):
    """Every module's update in float64, written out."""
    with Adapter.open(folder) as adapter:
        method = plugins.method_for(adapter)
        found = {}
        for module in method.modules(adapter):
            d = method.delta(adapter, module)
            found[module.key] = d.scale * d.B.astype(np.float64) @ d.A.astype(np.float64)
        return found


def close(one, other, tolerance):
    assert np.abs(one - other).max() <= tolerance * max(1.0, np.abs(other).max())


# ---------------------------------------------------------------- equal to the sum of PEFT's own deltas

LLAMA = [
    {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj", "down_proj"]},
    {"r": 8, "lora_alpha": 4, "use_rslora": True, "target_modules": "all-linear"},
    {
        "r": 2,
        "lora_alpha": 3,
        "target_modules": r".*layers\.1.*\.(k_proj|up_proj)",
        "rank_pattern": {"up_proj": 6},
        "alpha_pattern": {"layers.1.mlp.up_proj": 5},
    },
]
CASES = {
    "llama, ranks, modules, alphas and rsLoRA mixed": (tiny.llama, LLAMA[:2], [0.7, -0.4]),
    "llama, three with rank and alpha patterns and a regex": (tiny.llama, LLAMA, [1.0, 1.0, 2.5]),
    "llama, one alone": (tiny.llama, LLAMA[1:2], [1.0]),
    "gpt2, Conv1D": (
        tiny.gpt2,
        [
            {"r": 4, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True},
            {"r": 3, "lora_alpha": 9, "target_modules": ["c_fc", "c_attn"], "fan_in_fan_out": True},
        ],
        [0.5, 1.5],
    ),
    "bert, lora_bias on one side": (
        tiny.bert_plain,
        [
            {"r": 4, "target_modules": ["query", "dense"], "lora_bias": True},
            {"r": 2, "lora_alpha": 7, "target_modules": ["value", "dense"]},
        ],
        [0.6, 0.9],
    ),
    "llama, embedding": (
        tiny.llama,
        [
            {"r": 4, "target_modules": ["embed_tokens", "q_proj"]},
            {"r": 2, "lora_alpha": 6, "target_modules": ["embed_tokens"]},
        ],
        [0.5, 0.5],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_merged_output_is_that_of_the_weighted_sum_of_pefts_own_deltas(case, tmp_path, merged):
    make, configs, weights = CASES[case]
    folders = [
        tiny.make_adapter(make(), tmp_path / f"a{i}", i + 1, **config)
        for i, config in enumerate(configs)
    ]
    out, report = merged(list(zip(folders, weights, strict=True)))
    wanted = tiny.peft_sum(make, folders, weights)
    assert np.abs(wanted - tiny.output(make())).max() > 1e-3  # the adapters do something
    close(tiny.output(tiny.reload_strictly(make(), out)), wanted, 1e-5)
    assert report.error.total < 1e-6
    assert report.from_sum == report.error.total


def conv_net():
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3), torch.nn.Conv2d(8, 8, 3, groups=2), torch.nn.Flatten()
    ).eval()


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups:UserWarning")
def test_convolutions_merge_grouped_ones_too(tmp_path, merged):
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    folders = []
    for seed, rank in ((1, 4), (2, 2)):
        model = get_peft_model(
            conv_net(), LoraConfig(r=rank, lora_alpha=3, target_modules=["0", "1"])
        )
        generator = torch.Generator().manual_seed(seed)
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.data.copy_(torch.randn(value.shape, generator=generator))
        model.save_pretrained(tmp_path / f"conv{seed}")
        folders.append(tmp_path / f"conv{seed}")
    out, _ = merged([(folders[0], 0.5), (folders[1], -1.5)])
    x = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        base = conv_net()(x)
        # Each convolution sees the base's input, so compare layer by layer: the sum of what each adapter adds.
        added = {}
        for folder, weight in zip(folders, (0.5, -1.5), strict=True):
            layers = PeftModel.from_pretrained(conv_net(), folder).base_model.model
            for i, seen in ((0, x), (1, conv_net()[0](x))):
                added[i] = added.get(i, 0) + weight * (layers[i](seen) - conv_net()[i](seen))
        result = tiny.reload_strictly(conv_net(), out).base_model.model
        for i, seen in ((0, x), (1, conv_net()[0](x))):
            assert torch.allclose(result[i](seen) - conv_net()[i](seen), added[i], atol=1e-4)
    assert base.shape[0] == 2


# ---------------------------------------------------------------- optimal truncation, honest losses


def test_svd_is_the_optimum_of_its_rank_and_says_what_it_lost(lora_pair, merged, plugins):
    weights = [0.7, 0.3]
    out, report = merged(list(zip(lora_pair, weights, strict=True)), strategy="svd", rank=3)
    parents = [deltas(folder, plugins) for folder in lora_pair]
    made = deltas(out, plugins)
    num = den = 0.0
    for key, stored in made.items():
        whole = sum(w * p[key] for w, p in zip(weights, parents, strict=True) if key in p)
        U, S, Vt = np.linalg.svd(whole)
        best = (U[:, :3] * S[:3]) @ Vt[:3]
        assert np.linalg.norm(stored - best) <= 1e-6 * np.linalg.norm(whole)
        wanted = np.linalg.norm(stored - whole) / np.linalg.norm(whole)
        assert report.error.modules[key] == pytest.approx(wanted, rel=1e-9)
        num, den = num + np.linalg.norm(stored - whole) ** 2, den + np.linalg.norm(whole) ** 2
    assert report.error.total == pytest.approx(np.sqrt(num / den), rel=1e-9)
    assert set(report.ranks.values()) == {3}


def test_the_loss_of_rounding_is_measured_too(lora_pair, merged, plugins):
    out, report = merged([(lora_pair[0], 0.3)], dtype="bfloat16")
    parent, made = deltas(lora_pair[0], plugins), deltas(out, plugins)
    for key, stored in made.items():
        wanted = np.linalg.norm(stored - 0.3 * parent[key]) / np.linalg.norm(0.3 * parent[key])
        assert 1e-4 < wanted < 1e-2
        assert report.error.modules[key] == pytest.approx(wanted, rel=1e-3)


def test_an_update_that_cancels_has_loss_none_and_one_that_is_zero_has_loss_zero(
    tmp_path, lora_pair, merged
):
    from safetensors.numpy import load_file, save_file

    twin = shutil.copytree(lora_pair[0], tmp_path / "twin")
    tensors = load_file(twin / "adapter_model.safetensors")
    save_file(
        {k: v * (3 if "lora_A" in k else 1 / 3) for k, v in tensors.items()},
        twin / "adapter_model.safetensors",
    )
    _, cancelled = merged([(lora_pair[0], 1.0), (twin, -1.0)])
    assert cancelled.error.total is None or cancelled.error.total < 1e-6
    zero = shutil.copytree(lora_pair[0], tmp_path / "zero")
    save_file({k: v * 0 for k, v in tensors.items()}, zero / "adapter_model.safetensors")
    _, nothing = merged([(zero, 1.0)])
    assert nothing.error.total == 0.0
    json.dumps([cancelled.error.total, dict(nothing.error.modules)], allow_nan=False)


def test_cat_is_whole_svd_is_cut_to_the_parents_linear_is_as_asked(lora_pair, merged):
    pairs = [(folder, 1.0) for folder in lora_pair]
    assert merged(pairs, "cat")[1].rank == 12
    assert merged(pairs, "linear")[1].rank == 12
    assert merged(pairs, "linear", rank=5)[1].rank == 5
    assert merged(pairs, "svd")[1].rank == 8
    with pytest.raises(BadRecipe, match="takes no --rank"):
        merged(pairs, "cat", rank=4)
    with pytest.raises(BadRecipe, match=r"--rank is 99: the whole result has rank 12"):
        merged(pairs, "linear", rank=99)


def test_a_rank_larger_than_the_module_is_cut_to_what_the_module_holds(tmp_path, merged):
    folders = [
        tiny.make_adapter(tiny.llama(), tmp_path / str(i), i, r=24, target_modules=["q_proj"])
        for i in (1, 2)
    ]
    out, report = merged([(folder, 1.0) for folder in folders])
    assert set(report.ranks.values()) == {32}  # hidden size, not 48
    assert report.error.total < 1e-6
    close(
        tiny.output(tiny.reload_strictly(tiny.llama(), out)),
        tiny.peft_sum(tiny.llama, folders, [1, 1]),
        1e-5,
    )


# ---------------------------------------------------------------- where PEFT goes wrong


@pytest.fixture
def beside_peft(tmp_path):
    """Two adapters loaded by PEFT, and its own merge of them."""

    def run(configs, weights, kind, **more):
        from peft import PeftModel

        folders = [
            tiny.make_adapter(tiny.llama(), tmp_path / f"p{i}", i + 1, **c)
            for i, c in enumerate(configs)
        ]
        model = PeftModel.from_pretrained(tiny.llama(), folders[0], adapter_name="a0")
        for i, folder in enumerate(folders[1:], 1):
            model.load_adapter(str(folder), adapter_name=f"a{i}")

        def theirs():
            model.add_weighted_adapter(
                [f"a{i}" for i in range(len(folders))], weights, "m", combination_type=kind, **more
            )
            model.set_adapter("m")
            return tiny.output(model.eval())

        return folders, theirs

    return run


Q = {"r": 4, "target_modules": ["q_proj", "up_proj"]}


@pytest.mark.parametrize(
    ("configs", "weights"),
    [
        ([Q, Q], [1.0, 1.0]),
        ([Q, Q], [1.0, -1.0]),
        ([Q | {"lora_alpha": 2}, Q | {"lora_alpha": 32}], [0.5, 0.5]),
        ([Q | {"use_rslora": True, "lora_alpha": 16}], [1.0]),
    ],
    ids=["cross terms", "opposite weights", "different alphas", "one rsLoRA adapter at weight 1"],
)
def test_peft_linear_is_silently_wrong_where_ours_is_the_sum(configs, weights, beside_peft, merged):
    folders, theirs = beside_peft(configs, weights, "linear")
    wanted = tiny.peft_sum(tiny.llama, folders, weights)
    size = np.abs(wanted - tiny.output(tiny.llama())).max()
    out, _ = merged(list(zip(folders, weights, strict=True)))
    close(tiny.output(tiny.reload_strictly(tiny.llama(), out)), wanted, 1e-5)
    assert np.abs(theirs() - wanted).max() > 0.1 * size


@pytest.mark.parametrize(
    "configs",
    [
        [Q, Q | {"r": 8}],
        [Q | {"target_modules": ["q_proj"]}, Q | {"target_modules": ".*up_proj"}],
    ],
    ids=["different ranks", "a set against a regex"],
)
def test_what_peft_refuses_merges(configs, beside_peft, merged):
    folders, theirs = beside_peft(configs, [1.0, 1.0], "linear")
    with pytest.raises(ValueError, match="same"):
        theirs()
    out, _ = merged([(folder, 1.0) for folder in folders], missing="disjoint")
    close(
        tiny.output(tiny.reload_strictly(tiny.llama(), out)),
        tiny.peft_sum(tiny.llama, folders, [1, 1]),
        1e-5,
    )


def test_rank_patterns_on_both_sides_give_an_adapter_that_reloads(beside_peft, merged):
    configs = [Q | {"rank_pattern": {"q_proj": 6}}, Q | {"rank_pattern": {"up_proj": 2}}]
    folders, _ = beside_peft(configs, [1.0, 1.0], "cat")
    out, report = merged([(folder, 1.0) for folder in folders])
    assert sorted(set(report.ranks.values())) == [6, 10]
    close(
        tiny.output(tiny.reload_strictly(tiny.llama(), out)),
        tiny.peft_sum(tiny.llama, folders, [1, 1]),
        1e-5,
    )


def test_lora_bias_comes_back_at_weight_one(tmp_path, merged):
    config = {"r": 4, "lora_alpha": 16, "target_modules": ["query", "dense"], "lora_bias": True}
    folder = tiny.make_adapter(tiny.bert_plain(), tmp_path / "a", 1, **config)
    out, _ = merged([(folder, 1.0)])
    assert tiny.read_config(out)["lora_bias"] is True
    close(
        tiny.output(tiny.reload_strictly(tiny.bert_plain(), out)),
        tiny.peft_sum(tiny.bert_plain, [folder], [1]),
        1e-5,
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kasa_config": {}, "use_qalora": True}, "QALoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "initialised with pissa_niter_4"),
        ({"init_lora_weights": "corda"}, "initialised with corda"),
        ({"init_lora_weights": "olora", "use_dora": True}, "PEFT has for plain linear layers only"),
        ({"peft_type": "PROMPT_TUNING"}, "does not combine PROMPT_TUNING yet"),
    ],
)
def test_what_cannot_be_merged_yet_is_refused_by_name(changes, reason, tmp_path, lora_pair, merged):
    odd = tiny.edit_config(shutil.copytree(lora_pair[0], tmp_path / "odd"), **changes)
    with pytest.raises(Unmergeable, match=reason) as caught:
        merged([(odd, 1.0), (lora_pair[1], 1.0)])
    assert "odd" in str(caught.value)


def test_a_method_that_changes_the_weights_needs_them_and_a_rank(tmp_path, merged, tiny_llama):
    folder = tiny.make_adapter(
        tiny.llama(), tmp_path / "dora", 1, r=2, use_dora=True, target_modules=["q_proj"]
    )
    with pytest.raises(
        Unmergeable,
        match="without its base: a lora update depends on the base's weights\n  --base DIR",
    ):
        merged([(folder, 1.0)])
    with BaseWeights.open(tiny_llama) as weights, pytest.raises(BadRecipe, match="needs --rank"):
        merged([(folder, 1.0)], weights=weights)


def test_a_float32_adapter_stays_float32_though_its_base_is_bfloat16(tmp_path, merged):
    import torch

    folder = tiny.make_adapter(
        tiny.llama().to(torch.bfloat16), tmp_path / "a", 1, r=2, target_modules=["q_proj"]
    )
    _, report = merged([(folder, 0.3)])
    assert report.dtype == "F32"
    assert report.error.total < 1e-6


# ---------------------------------------------------------------- peft:linear is PEFT's


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.7, -0.4], [0.3, 0.3, 0.4]])
def test_peft_linear_has_pefts_bits(weights, tmp_path, merged):
    from peft import PeftModel
    from safetensors.numpy import load_file

    folders = [
        tiny.make_adapter(tiny.llama(), tmp_path / f"a{i}", i + 1, **Q, lora_alpha=3 + i)
        for i in range(len(weights))
    ]
    model = PeftModel.from_pretrained(tiny.llama(), folders[0], adapter_name="a0")
    for i, folder in enumerate(folders[1:], 1):
        model.load_adapter(str(folder), adapter_name=f"a{i}")
    model.add_weighted_adapter(
        [f"a{i}" for i in range(len(folders))], weights, "m", combination_type="linear"
    )
    model.save_pretrained(tmp_path / "peft", selected_adapters=["m"])
    theirs = load_file(tmp_path / "peft" / "m" / "adapter_model.safetensors")
    out, report = merged(list(zip(folders, weights, strict=True)), "peft:linear")
    ours = load_file(out / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert np.array_equal(value, theirs[key]), key
    assert report.space == "factors"
    assert report.from_sum > 0.1


# ---------------------------------------------------------------- what is no delta


def test_equal_heads_are_kept_and_different_ones_need_a_word(tmp_path, merged):
    from safetensors.numpy import load_file

    config = {"r": 2, "target_modules": ["query"], "task_type": "SEQ_CLS"}
    one, two = (
        tiny.make_adapter(tiny.bert(), tmp_path / n, s, **config)
        for n, s in (("one", 1), ("two", 2))
    )
    head = "base_model.model.classifier.weight"
    with pytest.raises(
        ExtrasConflict, match="disagree about the tensor 'base_model.model.classifier.bias'"
    ):
        merged([(one, 1.0), (two, 3.0)])
    heads = [load_file(folder / "adapter_model.safetensors")[head] for folder in (one, two)]
    averaged = load_file(
        merged([(one, 1.0), (two, 3.0)], extras="average")[0] / "adapter_model.safetensors"
    )[head]
    assert np.allclose(averaged, 0.25 * heads[0] + 0.75 * heads[1], atol=1e-7)
    chosen = load_file(
        merged([(one, 1.0), (two, 3.0)], extras=f"from={two}")[0] / "adapter_model.safetensors"
    )
    assert np.array_equal(chosen[head], heads[1])
    out, report = merged([(one, 1.0), (two, 3.0)], extras="drop")
    assert head in report.dropped
    assert tiny.read_config(out)["modules_to_save"] is None
    alone, _ = merged([(one, 1.0)])
    tiny.reload_strictly(tiny.bert(), alone)


def test_a_task_type_in_conflict_is_an_error_and_extras_settle_it(tmp_path, lora_pair, merged):
    odd = tiny.edit_config(shutil.copytree(lora_pair[0], tmp_path / "odd"), task_type="CAUSAL_LM")
    other = tiny.edit_config(shutil.copytree(lora_pair[1], tmp_path / "other"), task_type="SEQ_CLS")
    with pytest.raises(ExtrasConflict, match="the setting 'task_type'"):
        merged([(odd, 1.0), (other, 1.0)])
    out, _ = merged([(odd, 1.0), (other, 1.0)], extras=f"from={odd}")
    assert tiny.read_config(out)["task_type"] == "CAUSAL_LM"
    assert (
        tiny.read_config(merged([(odd, 1.0), (lora_pair[1], 1.0)])[0])["task_type"] == "CAUSAL_LM"
    )


def test_tokenizer_files_travel_and_conflicts_are_named(tmp_path, lora_pair, merged):
    one, two = (
        shutil.copytree(p, tmp_path / n) for p, n in zip(lora_pair, ("one", "two"), strict=True)
    )
    (one / "tokenizer.json").write_text("{}")
    out, _ = merged([(one, 1.0), (two, 1.0)])
    assert (out / "tokenizer.json").read_text() == "{}"
    (two / "tokenizer.json").write_text("{ }")
    with pytest.raises(ExtrasConflict, match=r"the file 'tokenizer\.json'"):
        merged([(one, 1.0), (two, 1.0)])


# ---------------------------------------------------------------- repeatable


PLUGINS = Plugins.from_environment()
SPACES = [(strategy.name, space) for strategy in PLUGINS.strategies() for space in strategy.spaces]


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """Two adapters of one rank on the same modules."""
    folder = tmp_path_factory.mktemp("alike")
    return [tiny.make_adapter(tiny.llama(), folder / f"a{i}", i + 1, **Q) for i in range(2)]


@pytest.mark.parametrize(("strategy", "space"), SPACES)
def test_the_bytes_do_not_depend_on_how_many_workers_there_are(strategy, space, alike, merged):
    pairs = [(folder, 0.5) for folder in alike]
    rank = {"rank": 2} if PLUGINS.strategy(strategy).rank_rule == "asked" else {}
    made = {
        (
            merged(pairs, strategy, workers=n, space=space, **rank)[0] / "adapter_model.safetensors"
        ).read_bytes()
        for n in (1, 4)
    }
    assert len(made) == 1


def test_a_result_that_does_not_fit_its_dtype_is_an_error(lora_pair, merged):
    with pytest.raises(MergeError, match="NaN or Inf"):
        merged([(lora_pair[0], 1e9)], dtype="float16")


def test_modules_of_two_shapes_are_refused(tmp_path, lora_pair, merged):
    other = tmp_path / "wide"
    tiny.save_llama(tmp_path / "base", hidden_size=64)
    tiny.save_adapter(tmp_path / "base", other, 1, r=2, target_modules=["q_proj"])
    with pytest.raises(Unmergeable, match=r"has two shapes: \[32, 32\] in .* \[64, 64\] in"):
        merged([(lora_pair[0], 1.0), (other, 1.0)])


# ---------------------------------------------------------------- weights by module, ranks by energy


def test_a_glob_gives_another_weight_and_the_last_one_wins(lora_pair, merged, plugins):
    one, two = (deltas(folder, plugins) for folder in lora_pair)
    out, _ = merged(
        [(lora_pair[0], 0.5), (lora_pair[1], 1.0)],
        weights_by_module=[{}, {"*.mlp.*": [0.25], "*down_proj": [0]}],
    )
    for key, found in deltas(out, plugins).items():
        weight = 0.0 if key.endswith("down_proj") else 0.25 if ".mlp." in key else 1.0
        close(found, 0.5 * one.get(key, 0.0) + weight * two[key], 1e-6)


def test_several_values_are_a_gradient_over_the_layers(lora_pair, merged, plugins):
    out, _ = merged([(lora_pair[1], 1.0)], weights_by_module=[{"*": [0, 2]}])
    before = deltas(lora_pair[1], plugins)
    for key, found in deltas(out, plugins).items():
        close(found, (0.0 if ".layers.0." in key else 2.0) * before[key], 1e-6)


def test_a_gradient_is_interpolated_between_its_values():
    weight = recipe.ModuleWeight("d", "*", (0.0, 1.0, 0.5))
    assert [weight.at(x) for x in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.5, 1.0, 0.75, 0.5]


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, float("inf")]])
def test_a_module_weight_that_is_not_finite_is_refused(values, lora_pair, merged):
    with pytest.raises(BadRecipe, match=r"in the modules '\*' is .*finite number"):
        merged([(lora_pair[0], 1.0)], weights_by_module=[{"*": values}])


@pytest.mark.parametrize(("keep", "energy"), [("fro", 0.9), ("cumulative", 0.8), ("ratio", 3.0)])
def test_energy_gives_each_module_the_smallest_rank_that_keeps_it(
    keep, energy, lora_pair, merged, plugins
):
    out, report = merged([(lora_pair[0], 1.0), (lora_pair[1], 1.0)], energy=energy, keep=keep)
    one, two = (deltas(folder, plugins) for folder in lora_pair)
    for key, rank in report.ranks.items():
        S = np.linalg.svd(one.get(key, 0.0) + two[key], compute_uv=False)
        if keep == "ratio":
            assert rank == (S[0] / energy <= S).sum()
        else:
            values = S if keep == "cumulative" else S**2
            share = energy if keep == "cumulative" else energy**2
            assert values[:rank].sum() >= share * values.sum() > values[: rank - 1].sum()
    assert len(set(report.ranks.values())) > 1
    tiny.reload_strictly(tiny.llama(), out)


def test_energy_out_of_its_range_names_it(lora_pair, merged):
    for choices, message in (
        ({"energy": 1.5}, r"it is in \(0, 1\]"),
        ({"energy": 0.5, "keep": "ratio"}, r"\(1, inf\]"),
        ({"energy": 0.5, "rank": 3}, "exclude each other"),
    ):
        with pytest.raises(BadRecipe, match=message):
            merged([(lora_pair[0], 1.0)], **choices)
    with pytest.raises(NotFound, match="no --keep called 'most'"):
        merged([(lora_pair[0], 1.0)], energy=0.5, keep="most")


def test_a_dense_merge_that_would_not_fit_in_memory_is_refused_before_it_starts(
    lora_pair, merged, monkeypatch
):
    monkeypatch.setattr(merge, "available_memory", lambda: 1000)
    with pytest.raises(
        BadRecipe,
        match=r"in the space 'dense' would take .* GB: 0.0 GB of memory are free\n  --space core",
    ):
        merged([(lora_pair[0], 1.0), (lora_pair[1], 1.0)], strategy="ties")
    merged([(lora_pair[0], 1.0), (lora_pair[1], 1.0)], strategy="ties", space="core")


def test_other_factors_of_the_same_update_merge_to_the_same(lora_pair, merged, plugins, tmp_path):
    from safetensors.numpy import load_file, save_file

    other = shutil.copytree(lora_pair[0], tmp_path / "other")
    tensors = load_file(other / "adapter_model.safetensors")
    save_file(
        {k: v * (8 if "lora_B" in k else 0.125) for k, v in tensors.items()},
        other / "adapter_model.safetensors",
    )
    for strategy, space in (
        ("ties", "core"),
        ("ties", "knots"),
        ("ties", "dense"),
        ("tsv", "core"),
        ("karcher", "core"),
    ):
        results = [
            deltas(
                merged([(folder, 1.0), (lora_pair[1], 0.5)], strategy=strategy, space=space)[0],
                plugins,
            )
            for folder in (lora_pair[0], other)
        ]
        for key, found in results[0].items():
            close(found, results[1][key], 1e-6)


def test_knots_in_factor_space_equals_the_dense_construction(lora_pair, plugins):
    from adaptkit.algebra.lowrank import LowRank, matrix
    from adaptkit.algebra.spaces import view

    rng = np.random.default_rng(0)
    updates = [
        LowRank(rng.standard_normal((20, 3)), rng.standard_normal((3, 15)), 0.7) for _ in range(3)
    ]
    weights = [0.5, 1.0, -0.3]
    strategy = plugins.strategy("ties")
    params = strategy.params(density=0.4)
    seen = view("knots", updates, weights)
    ours = matrix(seen.rebuild([strategy.merge(t, w, params, [None] * 3) for t, w in seen.groups]))
    U, S, Vt = np.linalg.svd(
        np.concatenate([matrix(u) for u in updates], axis=1), full_matrices=False
    )
    U, S, Vt = U[:, :9], S[:9], Vt[:9]
    parts = [S[:, None] * part for part in np.split(Vt, 3, axis=1)]
    theirs = U @ strategy.merge(parts, weights, params, [None] * 3)
    assert np.abs(ours - theirs).max() < 1e-10


def test_what_is_done_entry_by_entry_keeps_more_than_the_sum_of_ranks_when_asked(merged, lora_pair):
    sources = [(folder, 1.0) for folder in lora_pair]
    losses = [
        merged(sources, strategy="ties", space="dense", rank=rank, params={"density": "0.3"})[
            1
        ].error.total
        for rank in (None, 12, 24, 32)
    ]
    assert losses[0] >= losses[1] > losses[2] > losses[3]
    assert losses[3] < 1e-6
