"""LoRA on mixtures of experts, under the names that PEFT and transformers 4 and 5 give to their parts."""

from __future__ import annotations

import json

import architectures
import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

from adaptkit import Workspace
from adaptkit.errors import BaseMismatch, MergeError, Unmergeable

pytestmark = [  # of patterns that name parameters, and of what an old file has otherwise
    pytest.mark.filterwarnings("ignore::RuntimeWarning:peft"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]
IDS = {"input_ids": torch.tensor([[3, 5, 7, 9, 60]])}
GATED = ["gate_proj", "up_proj", "down_proj"]
SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64}
DEEPSEEK = {"moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2}
DEEPSEEK |= {"n_group": 1, "topk_group": 1, "q_lora_rank": 8, "kv_lora_rank": 8, "v_head_dim": 8}
DEEPSEEK |= {"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "first_k_dense_replace": 1}


def base(name, folder):
    if name == "deepseek_v2":
        torch.manual_seed(0)
        config = transformers.DeepseekV2Config(**SIZES, **DEEPSEEK, n_shared_experts=1)
        transformers.DeepseekV2ForCausalLM(config).save_pretrained(folder)
    else:
        architectures.make(name, folder, tie=False)


def load(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model.set_experts_implementation("eager")
    return model.double().eval()


def output(model):
    with torch.no_grad():
        return model.double().eval()(**IDS).logits


def live(folder, *adapters):
    """What PEFT makes of adapters together on a base."""
    model = PeftModel.from_pretrained(load(folder), str(adapters[0]), adapter_name="0")
    for number, other in enumerate(adapters[1:], 1):
        model.load_adapter(str(other), str(number))
    model.base_model.set_adapter([str(n) for n in range(len(adapters))])
    return output(model)


def adapter(base_folder, folder, seed=1, **options):
    """An adapter as PEFT saves it; its configuration names no base."""
    made = get_peft_model(load(base_folder), LoraConfig(r=4, lora_alpha=6, **options))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.1 * noise.to(parameter.dtype))
    made.float().save_pretrained(folder)
    return edited(folder)


def edited(folder, **changes):
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text()) | {"base_model_name_or_path": None} | changes
    file.write_text(json.dumps(config))
    return folder


def of_transformers_4(base_folder, folder, names, *, prefix="mlp", layers=(0, 1), more=()):
    """An adapter with one update for each layer of each expert, as PEFT saved it before transformers 5."""
    shapes = {n: p.shape for n, p in load(base_folder).named_parameters()}
    generator, tensors = torch.Generator().manual_seed(1), {}

    def update(module, rows, columns):
        for side, shape in (("A", (4, columns)), ("B", (rows, 4))):
            values = 0.3 * torch.randn(shape, generator=generator)
            tensors[f"base_model.model.{module}.lora_{side}.weight"] = values

    for layer in layers:
        count, width, hidden = shapes[f"model.layers.{layer}.mlp.experts.gate_up_proj"]
        for name in names:
            for expert in range(count):
                shape = (width // 2, hidden)
                turned = shape[::-1] if name in {"w2", "down_proj"} else shape
                update(f"model.layers.{layer}.{prefix}.experts.{expert}.{name}", *turned)
        for name in more:
            module = f"model.layers.{layer}.{name}"
            update(module, *shapes[f"{module}.weight"])
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    targets = sorted({name.rpartition(".")[2] for name in (*names, *more)})
    LoraConfig(r=4, lora_alpha=6, target_modules=targets).save_pretrained(folder)
    return edited(folder)


@pytest.fixture
def said():
    return []


@pytest.fixture
def workspace(tmp_path, said):
    with Workspace.init(tmp_path / "home", notify=said.append) as opened:
        yield opened


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "deepseek_v2"])
def test_parameters_that_peft_names_without_their_module_are_known(workspace, tmp_path, name):
    base(name, tmp_path / "base")
    folder = adapter(tmp_path / "base", tmp_path / "a", target_modules="all-linear")
    other = adapter(tmp_path / "base", tmp_path / "b", seed=2, target_modules="all-linear")
    declared = json.loads((folder / "adapter_config.json").read_text())
    assert {"gate_up_proj", "down_proj"} <= set(declared["target_parameters"])
    assert declared["rank_pattern"] == {r".*\.gate_up_proj": 8}
    want, both = live(tmp_path / "base", folder), live(tmp_path / "base", folder, other)
    workspace.add(folder, "moe", base=str(tmp_path / "base"))
    assert torch.allclose(output(workspace.load("moe", load(tmp_path / "base"))), want, atol=1e-6)
    for given in (None, tmp_path / "base"):
        out = tmp_path / f"merged{given is None}"
        workspace.merge([str(folder), str(other)], out=out, base=given)
        assert torch.allclose(live(tmp_path / "base", out), both, atol=1e-5)
    workspace.bake("moe", tmp_path / "base", tmp_path / "baked")
    assert torch.allclose(output(load(tmp_path / "baked")), want, atol=1e-5)


def test_two_spellings_of_the_same_parameters_are_merged(workspace, tmp_path):
    base("qwen3_moe", tmp_path / "base")
    short = adapter(
        tmp_path / "base", tmp_path / "a", target_parameters=["gate_up_proj", "down_proj"]
    )
    long = adapter(
        tmp_path / "base",
        tmp_path / "b",
        seed=2,
        target_modules=[],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    )
    workspace.merge([str(short), str(long)], out=tmp_path / "merged", base=tmp_path / "base")
    edited(long, target_parameters=["gate_up_proj", "down_proj"])  # PEFT wants one spelling
    want = live(tmp_path / "base", short, long)
    assert torch.allclose(live(tmp_path / "base", tmp_path / "merged"), want, atol=1e-5)


def test_experts_that_only_the_base_tells_apart_are_not_guessed(workspace, tmp_path):
    base("qwen3_moe", tmp_path / "base")
    folder = adapter(
        tmp_path / "base",
        tmp_path / "a",
        target_modules=["q_proj"],
        target_parameters=["experts.gate_up_proj", "experts.down_proj"],
        alpha_pattern={"gate_up_proj": 20},
    )
    with pytest.raises(Unmergeable) as caught:
        workspace.merge([str(folder)], out=tmp_path / "merged")
    assert "may be 'down_proj' or 'gate_up_proj'" in caught.value.why
    assert "--base" in caught.value.why
    workspace.merge([str(folder)], out=tmp_path / "merged", base=tmp_path / "base")
    want = live(tmp_path / "base", folder)
    assert torch.allclose(live(tmp_path / "base", tmp_path / "merged"), want, atol=1e-5)


def test_ranks_of_their_own_for_each_parameter_are_extracted(workspace, tmp_path):
    base("mixtral", tmp_path / "base")
    tuned = load(tmp_path / "base").float()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "experts" in name:
                rank = 2 if "down" in name else 5
                for weight in parameter:
                    left = torch.randn(weight.shape[0], rank, generator=generator)
                    right = torch.randn(rank, weight.shape[1], generator=generator)
                    weight.add_(0.1 * left @ right)
    tuned.save_pretrained(tmp_path / "tuned")
    report = workspace.extract(tmp_path / "tuned", tmp_path / "base", out=tmp_path / "a").report
    assert set(report.ranks.values()) == {2, 5}
    want = output(load(tmp_path / "tuned"))
    assert torch.allclose(live(tmp_path / "base", tmp_path / "a"), want, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "names", "prefix"),
    [("mixtral", ["w1", "w2", "w3"], "block_sparse_moe"), ("qwen3_moe", GATED, "mlp")],
)
def test_adapters_from_before_the_experts_were_fused_are_loaded(
    workspace, tmp_path, name, names, prefix
):
    base(name, tmp_path / "base")
    folder = of_transformers_4(
        tmp_path / "base", tmp_path / "a", names, prefix=prefix, more=["self_attn.q_proj"]
    )
    want = live(tmp_path / "base", folder)
    workspace.add(folder, "old", base=str(tmp_path / "base"))
    assert torch.allclose(output(workspace.load("old", load(tmp_path / "base"))), want, atol=1e-6)
    workspace.merge({"old": 0.5}, out=tmp_path / "merged", base=tmp_path / "base")
    live(tmp_path / "base", tmp_path / "merged")
    workspace.bake("old", tmp_path / "base", tmp_path / "baked")
    assert torch.allclose(output(load(tmp_path / "baked")), want, atol=1e-5)


def test_a_router_keeps_a_rank_of_its_own_where_peft_takes_it_for_a_parameter(workspace, tmp_path):
    base("qwen3_moe", tmp_path / "base")
    for name in "ab":
        of_transformers_4(
            tmp_path / "base", tmp_path / name, GATED, more=["mlp.gate", "self_attn.q_proj"]
        )
    edited(tmp_path / "b", lora_alpha=5)
    workspace.merge(
        [str(tmp_path / "a"), str(tmp_path / "b")], out=tmp_path / "merged", base=tmp_path / "base"
    )
    ranks = json.loads((tmp_path / "merged" / "adapter_config.json").read_text())["rank_pattern"]
    assert set(ranks.values()) == {4}, "a router of four experts has no rank 8"
    edited(tmp_path / "a", lora_alpha=11)  # the same factors twice, at 6 and 5
    want = live(tmp_path / "base", tmp_path / "a")
    assert torch.allclose(live(tmp_path / "base", tmp_path / "merged"), want, atol=1e-5)


SHARED = [f"mlp.shared_experts.{name}" for name in GATED]


@pytest.mark.parametrize(
    ("name", "names", "layers", "more", "why"),
    [
        ("deepseek_v2", GATED, (1,), SHARED, "it takes down_proj for the experts' down_proj"),
        ("qwen3_moe", ["gate_proj"], (0, 1), [], "it updates gate_proj and not up_proj"),
    ],
)
def test_what_peft_would_pass_over_is_refused_where_peft_will_read_it(
    workspace, said, tmp_path, name, names, layers, more, why
):
    base(name, tmp_path / "base")
    more = ["self_attn.o_proj", *more]
    folder = of_transformers_4(tmp_path / "base", tmp_path / "a", names, layers=layers, more=more)
    workspace.add(folder, "old", base=str(tmp_path / "base"))
    assert any(why in text for text in said), said
    workspace.bake("old", tmp_path / "base", tmp_path / "baked")  # which goes by the file
    assert any("baked all the same" in text and why in text for text in said), said
    with pytest.raises(BaseMismatch) as caught:
        workspace.load("old", load(tmp_path / "base"))
    assert why in caught.value.why
    with pytest.raises(MergeError) as caught:
        workspace.merge(["old"], out=tmp_path / "merged", base=tmp_path / "base")
    assert why in caught.value.why
    assert "adaptkit strip REF --modules" in caught.value.fix
    assert not (tmp_path / "merged").exists()


def test_without_the_part_that_peft_would_pass_over_the_rest_is_merged(workspace, tmp_path):
    base("deepseek_v2", tmp_path / "base")
    more = ["self_attn.o_proj", *SHARED]
    folder = of_transformers_4(tmp_path / "base", tmp_path / "a", GATED, layers=(1,), more=more)
    workspace.strip(str(folder), modules=["*.shared_experts.*"], out=tmp_path / "less")
    want = live(tmp_path / "base", tmp_path / "less")
    workspace.merge([str(tmp_path / "less")], out=tmp_path / "merged", base=tmp_path / "base")
    assert torch.allclose(live(tmp_path / "base", tmp_path / "merged"), want, atol=1e-5)


def test_single_experts_of_a_model_that_peft_does_not_rename_are_named(workspace, tmp_path):
    settings = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    config = transformers.Qwen2MoeConfig(**SIZES, **settings, shared_expert_intermediate_size=24)
    torch.manual_seed(0)
    transformers.Qwen2MoeForCausalLM(config).save_pretrained(tmp_path / "base")
    folder = of_transformers_4(tmp_path / "base", tmp_path / "a", GATED, more=["self_attn.q_proj"])
    workspace.add(folder, "old", base=str(tmp_path / "base"))
    with pytest.raises(BaseMismatch) as caught:
        workspace.load("old", load(tmp_path / "base"))
    assert "PEFT passes over 'model.layers.0.mlp.experts.0.down_proj'" in caught.value.why
    assert "Qwen2MoeForCausalLM fuses its experts" in caught.value.why
