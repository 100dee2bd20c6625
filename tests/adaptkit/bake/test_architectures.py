"""Baking where the base's checkpoint is not what the adapter names: experts, renamed and fused tensors, new rows, more layers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file

from adaptkit.errors import BakeError, BaseMismatch, ExtrasConflict

EXPERTS = {
    "target_modules": ["q_proj"],
    "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
}
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
MODELS = {
    # Its checkpoint keeps every expert's w1, w2, w3; the model fuses and renames them.
    "Mixtral": {"num_local_experts": 4, "intermediate_size": 24},
    # As Mixtral, under other names, with a shared expert beside them.
    "Qwen2Moe": {
        "num_experts": 4,
        "moe_intermediate_size": 24,
        "intermediate_size": 24,
        "shared_expert_intermediate_size": 16,
    },
    # Fused in the checkpoint too, each expert's matrix transposed; down_proj is square.
    "GptOss": {"num_local_experts": 4, "intermediate_size": 32, "head_dim": 16},
}


@pytest.fixture
def bake(workspace):
    return lambda adapter, base, out, **how: (
        workspace.bake(str(adapter), base, out, force=True, **how).report
    )


@pytest.fixture(scope="module", params=MODELS)
def experts(request, tmp_path_factory):
    """A model with experts, and two adapters on all of them."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**SHAPE, **MODELS[request.param])
    getattr(transformers, f"{request.param}ForCausalLM")(config).save_pretrained(folder / "base")
    for number, rank in enumerate((2, 4)):
        make(folder / "base", folder / f"a{number}", number, r=rank, lora_alpha=8, **EXPERTS)
    return folder


def load(base):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base).eval()


def make(base, folder, seed, **config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's remarks about parameters
        return tiny.make_adapter(load(base), folder, seed, **config)


def merged(base, adapter):
    """The parameters of PEFT's own merge."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(load(base), str(adapter)).merge_and_unload()
    return {name: value.detach().double().numpy() for name, value in model.named_parameters()}


def parameters(model):
    return {name: value.detach().double().numpy() for name, value in load(model).named_parameters()}


def apart(ours, theirs):
    assert ours.keys() == theirs.keys()
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)


def test_experts_are_baked_into_the_checkpoint_as_it_is_named_and_split(experts, bake, tmp_path):
    report = bake(experts / "a0", experts / "base", tmp_path / "out")
    assert apart(parameters(tmp_path / "out"), merged(experts / "base", experts / "a0")) < 1e-6
    before, after = (
        load_file(folder / "model.safetensors") for folder in (experts / "base", tmp_path / "out")
    )
    assert before.keys() == after.keys()
    assert set(report.changed) == {
        key for key in before if not np.array_equal(before[key], after[key])
    }
    assert all("expert" in key or "q_proj" in key for key in report.changed)


def test_adapters_on_experts_merge_to_the_sum_of_what_each_does(experts, workspace, tmp_path):
    base, folders = experts / "base", [experts / "a0", experts / "a1"]
    made = workspace.merge([f"{folders[0]}=0.5", f"{folders[1]}=2"], out=tmp_path / "out")
    assert set(made.report.ranks.values()) == {6}
    before = parameters(base)
    wanted = dict(before)
    for folder, weight in zip(folders, (0.5, 2.0), strict=True):
        after = merged(base, folder)
        wanted = {name: wanted[name] + weight * (after[name] - before[name]) for name in before}
    assert apart(merged(base, tmp_path / "out"), wanted) < 1e-5


def test_a_truncated_merge_of_experts_keeps_one_rank_for_each(experts, workspace, bake, tmp_path):
    folders = [str(experts / "a0"), str(experts / "a1")]
    made = workspace.merge(folders, out=tmp_path / "out", rank=3)
    assert set(made.report.ranks.values()) == {3}
    assert tiny.read_config(tmp_path / "out")["r"] == 3
    bake(tmp_path / "out", experts / "base", tmp_path / "model")
    assert apart(parameters(tmp_path / "model"), merged(experts / "base", tmp_path / "out")) < 1e-6


def test_experts_of_other_parameters_do_not_merge(experts, workspace, tmp_path):
    other = make(
        experts / "base",
        tmp_path / "other",
        3,
        r=2,
        target_modules=[],
        target_parameters=["mlp.experts.down_proj"],
    )
    with pytest.raises(ExtrasConflict, match="disagree about target_parameters: "):
        workspace.merge([str(experts / "a0"), str(other)], out=tmp_path / "out")


def test_adding_checks_experts_against_the_base(experts, workspace, tiny_llama):
    workspace.add(experts / "a0", name="naval", base=str(experts / "base"))
    with pytest.raises(BaseMismatch, match="does not fit"):
        workspace.add(experts / "a0", name="medic", base=str(tiny_llama))


def test_a_name_that_the_library_renames_is_found_by_its_mapping(bake, tmp_path):
    """LLaVA's checkpoint says `language_model.model.layers`, its model `model.language_model.layers`."""
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    text = LlamaConfig(**SHAPE, intermediate_size=48)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=63)
    )
    model.save_pretrained(tmp_path / "base")
    names = load_file(tmp_path / "base" / "model.safetensors")
    target = "model.language_model.layers.0.self_attn.q_proj"
    assert f"{target}.weight" not in names
    tiny.make_adapter(model, tmp_path / "a", 1, r=2, target_modules=[target])
    bake(tmp_path / "a", tmp_path / "base", tmp_path / "out")
    from peft import PeftModel

    theirs = PeftModel.from_pretrained(
        LlavaForConditionalGeneration.from_pretrained(tmp_path / "base"), str(tmp_path / "a")
    )
    theirs = dict(theirs.merge_and_unload().named_parameters())[f"{target}.weight"].detach().numpy()
    ours = dict(LlavaForConditionalGeneration.from_pretrained(tmp_path / "out").named_parameters())[
        f"{target}.weight"
    ]
    assert np.abs(ours.detach().numpy() - theirs).max() < 1e-6


@pytest.mark.parametrize("tied", [False, True])
def test_trained_tokens_become_rows_of_the_embedding(tied, bake, tmp_path):
    base = tiny.save_llama(tmp_path / "base", tie_word_embeddings=tied)
    tiny.make_adapter(
        load(base),
        tmp_path / "a",
        1,
        r=2,
        target_modules=["q_proj"],
        trainable_token_indices={"embed_tokens": [3, 60]},
    )
    file = tmp_path / "a" / "adapter_model.safetensors"
    from safetensors.numpy import save_file

    save_file({k: v + 1 if "tokens_delta" in k else v for k, v in load_file(file).items()}, file)
    report = bake(tmp_path / "a", base, tmp_path / "out")
    assert "model.embed_tokens.weight" in report.changed
    assert apart(parameters(tmp_path / "out"), merged(base, tmp_path / "a")) < 1e-6


def test_tokens_that_the_base_has_not_are_refused(bake, tiny_llama, tmp_path):
    bigger = tiny.save_llama(tmp_path / "bigger", vocab_size=80)
    tiny.make_adapter(
        load(bigger),
        tmp_path / "a",
        1,
        r=2,
        target_modules=["q_proj"],
        trainable_token_indices=[70],
    )
    with pytest.raises(
        BakeError, match="brings row 70 of 'model.embed_tokens.weight', the base has 64 rows"
    ):
        bake(tmp_path / "a", tiny_llama, tmp_path / "out")


def test_embeddings_that_were_resized_in_training_replace_those_of_the_base(
    bake, tiny_llama, tmp_path
):
    model = load(tiny_llama)
    model.resize_token_embeddings(70)
    tiny.make_adapter(
        model,
        tmp_path / "a",
        1,
        r=2,
        target_modules=["q_proj"],
        modules_to_save=["embed_tokens", "lm_head"],
    )
    report = bake(tmp_path / "a", tiny_llama, tmp_path / "out")
    assert any("70 rows instead of 64" in remark for remark in report.remarks)
    baked = load(tmp_path / "out")
    assert baked.config.vocab_size == 70
    resized = load(tiny_llama)
    resized.resize_token_embeddings(70)
    from peft import PeftModel

    theirs = PeftModel.from_pretrained(resized, str(tmp_path / "a")).merge_and_unload()
    assert np.abs(tiny.output(baked) - tiny.output(theirs)).max() < 1e-5


def test_repeated_layers_become_layers_of_the_model(bake, workspace, tiny_llama, tmp_path):
    tiny.make_adapter(
        load(tiny_llama),
        tmp_path / "a",
        1,
        r=2,
        target_modules=["q_proj", "up_proj"],
        layer_replication=[[0, 2], [1, 2], [0, 1]],
    )
    report = bake(tmp_path / "a", tiny_llama, tmp_path / "out")
    assert report.remarks == ("the model has 4 layers now: 0, 1, 1, 0",)
    from peft import PeftModel

    live = PeftModel.from_pretrained(
        load(tiny_llama), str(tmp_path / "a")
    )  # its merge adds to weights that layers share
    assert np.abs(tiny.output(load(tmp_path / "out")) - tiny.output(live)).max() < 1e-6
    workspace.add(tmp_path / "a", name="deep", base=str(tiny_llama))


@pytest.mark.parametrize("spans", [[[0, 3]], [[0, 10**12]], [[-1, 1]], [[1, 1]]])
def test_layers_that_the_base_has_not_are_refused(spans, bake, tiny_llama, tmp_path):
    tiny.make_adapter(load(tiny_llama), tmp_path / "a", 1, r=2, target_modules=["q_proj"])
    tiny.edit_config(tmp_path / "a", layer_replication=spans)
    with pytest.raises(
        BaseMismatch, match=r"its layer_replication is .*, and the base has 2 layers"
    ):
        bake(tmp_path / "a", tiny_llama, tmp_path / "out")


def with_tokens(base, folder, seed, tokens):
    from safetensors.numpy import save_file

    tiny.make_adapter(
        load(base),
        folder,
        seed,
        r=2,
        target_modules=["q_proj"],
        trainable_token_indices={"embed_tokens": tokens},
    )
    file = folder / "adapter_model.safetensors"
    save_file({k: v + seed if "tokens_delta" in k else v for k, v in load_file(file).items()}, file)
    return folder


def test_trained_tokens_of_two_adapters_stand_side_by_side(workspace, bake, tiny_llama, tmp_path):
    folders = [
        with_tokens(tiny_llama, tmp_path / "a", 1, [3, 60]),
        with_tokens(tiny_llama, tmp_path / "b", 2, [5]),
    ]
    workspace.merge([str(folder) for folder in folders], out=tmp_path / "out")
    assert tiny.read_config(tmp_path / "out")["trainable_token_indices"] == {
        "model.embed_tokens": [3, 5, 60]
    }
    bake(tmp_path / "out", tiny_llama, tmp_path / "model")
    ours = parameters(tmp_path / "model")
    assert apart(ours, merged(tiny_llama, tmp_path / "out")) < 1e-6
    for folder, rows in zip(folders, ([3, 60], [5]), strict=True):
        theirs = merged(tiny_llama, folder)["model.embed_tokens.weight"]
        assert np.array_equal(ours["model.embed_tokens.weight"][rows], theirs[rows])


def test_one_token_trained_twice_is_settled_by_extras(workspace, tiny_llama, tmp_path):
    folders = [
        with_tokens(tiny_llama, tmp_path / "a", 1, [3, 60]),
        with_tokens(tiny_llama, tmp_path / "b", 2, [60]),
    ]
    refs = [str(folder) for folder in folders]
    with pytest.raises(ExtrasConflict, match="disagree about row 60 of the tensor"):
        workspace.merge(refs, out=tmp_path / "none")
    key = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    one, two = (load_file(folder / "adapter_model.safetensors")[key] for folder in folders)
    for policy, wanted in (
        ("average", (one[1] + two[0]) / 2),
        (f"from={refs[1]}", two[0]),
        ("drop", None),
    ):
        made = workspace.merge(refs, out=tmp_path / policy.partition("=")[0], extras=policy)
        rows = load_file(made.out / "adapter_model.safetensors")[key]
        assert np.array_equal(rows[0], one[0]) or policy.startswith("from=")
        assert len(rows) == {"average": 2, "drop": 1}.get(policy, 2)
        if wanted is not None:
            assert np.abs(rows[-1] - wanted).max() < 1e-6
    assert made.report.dropped == (f"row 60 of {key}",)
