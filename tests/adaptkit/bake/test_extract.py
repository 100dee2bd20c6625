"""A fine-tune minus its base, as LoRA."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import trained_adapters

from adaptkit.algebra.loss import Loss
from adaptkit.bake.extract import ExtractReport
from adaptkit.errors import BadBase, BadRecipe
from adaptkit.workspace.bake import left_out


@pytest.fixture
def fine_tuned(tiny_llama, lora_pair, workspace, tmp_path):
    """The base with an adapter of rank 8 in it: a fine-tune whose change is known."""
    workspace.bake(str(lora_pair[1]), tiny_llama, tmp_path / "tuned", force=True)
    return tmp_path / "tuned"


def test_what_was_changed_comes_back_out(fine_tuned, tiny_llama, workspace, tmp_path):
    made = workspace.extract(fine_tuned, tiny_llama, rank=8, name="found")
    assert made.report.error.total < 1e-4  # the fine-tune is stored in float32
    assert (made.version.ref, made.version.base.status) == ("found@1", "verified")
    after, ours = (
        trained_adapters.weights(fine_tuned),
        trained_adapters.merged_by_peft(tiny_llama, workspace.path("found")),
    )
    assert all(np.abs(ours[key] - after[key]).max() < 1e-5 for key in after)
    tiny.reload_strictly(tiny.llama(), workspace.path("found"))


def test_a_smaller_rank_loses_what_the_best_approximation_loses(
    fine_tuned, tiny_llama, workspace, tmp_path
):
    made = workspace.extract(fine_tuned, tiny_llama, rank=3, out=tmp_path / "out")
    before, after = trained_adapters.weights(tiny_llama), trained_adapters.weights(fine_tuned)
    lost = total = 0.0
    for key in made.report.ranks:
        S = np.linalg.svd(after[f"{key}.weight"] - before[f"{key}.weight"], compute_uv=False)
        lost, total = lost + (S[3:] ** 2).sum(), total + (S**2).sum()
    assert made.report.error.total == pytest.approx(np.sqrt(lost / total), rel=1e-5)


def test_conv1d_and_embeddings_come_out_too(workspace, tmp_path):
    model = tiny.gpt2()
    model.save_pretrained(tmp_path / "base")
    for name, value in model.named_parameters():
        if name.endswith(("c_attn.weight", "wte.weight", "ln_f.weight")):
            value.data += 0.01
    model.save_pretrained(tmp_path / "tuned")
    made = workspace.extract(tmp_path / "tuned", tmp_path / "base", rank=1, out=tmp_path / "out")
    assert made.report.error.total < 1e-4
    assert made.report.left_out == ("transformer.ln_f.weight",)
    assert (
        "1 tensor (0.056 of the whole change; saved with --keep-full), such as transformer.ln_f.weight"
        in workspace.noticed[-1]
    )
    assert tiny.read_config(tmp_path / "out")["fan_in_fan_out"] is True


def test_what_is_no_fine_tune_of_this_base_is_a_sentence(tiny_llama, workspace, tmp_path):
    tiny.gpt2().save_pretrained(tmp_path / "gpt2")
    with pytest.raises(BadBase, match="are not one architecture: only one of them has"):
        workspace.extract(tmp_path / "gpt2", tiny_llama, rank=4, out=tmp_path / "out")
    with pytest.raises(BadBase, match="changes no matrix of its base"):
        workspace.extract(tiny_llama, tiny_llama, rank=4, out=tmp_path / "out")
    with pytest.raises(BadRecipe, match="--rank is 0"):
        workspace.extract(tiny_llama, tiny_llama, rank=0, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tied_model_comes_out_with_embedding_and_head(workspace, tmp_path):
    import architectures
    import torch

    base = architectures.make("llama", tmp_path / "base", tie=True)
    model = architectures.load("llama", base).float()
    with torch.no_grad():
        model.model.embed_tokens.weight += 0.1 * torch.randn(64, 32)
    model.save_pretrained(tmp_path / "tuned")
    made = workspace.extract(tmp_path / "tuned", base, rank=32, out=tmp_path / "out")
    assert set(made.report.ranks) == {"model.embed_tokens", "lm_head"}
    assert tiny.read_config(tmp_path / "out")["ensure_weight_tying"] is True
    baked = workspace.bake(str(tmp_path / "out"), base, tmp_path / "again", force=True).report
    assert baked.changed == ("model.embed_tokens.weight",)  # one tensor still
    again = architectures.outputs("llama", architectures.load("llama", tmp_path / "again"))
    assert torch.allclose(again, architectures.outputs("llama", model.double()), atol=1e-5)


def test_new_heads_and_new_tokens_are_saved_whole(tiny_llama, workspace, tmp_path):
    import transformers

    found = transformers.AutoModelForSequenceClassification.from_pretrained(
        tiny_llama, num_labels=3
    )
    found.save_pretrained(tmp_path / "classifier")
    made = workspace.extract(tmp_path / "classifier", tiny_llama, rank=4, out=tmp_path / "one")
    config = tiny.read_config(tmp_path / "one")
    assert made.report.saved == ("score",)
    assert (config["task_type"], config["modules_to_save"]) == ("SEQ_CLS", ["score"])
    model = transformers.LlamaForCausalLM.from_pretrained(tiny_llama)
    model.resize_token_embeddings(66, mean_resizing=False)
    model.save_pretrained(tmp_path / "more")
    made = workspace.extract(tmp_path / "more", tiny_llama, rank=4, out=tmp_path / "two")
    assert made.report.saved == ("lm_head", "model.embed_tokens")
    assert "model.resize_token_embeddings(66)" in workspace.noticed[-1]


def test_rank_auto_keeps_99_percent_of_each_change(fine_tuned, tiny_llama, workspace, tmp_path):
    made = workspace.extract(fine_tuned, tiny_llama, out=tmp_path / "out")
    assert set(made.report.ranks.values()) <= set(range(1, 9))  # the change has rank 8
    assert made.report.error.total <= 0.1


def test_norms_are_saved_whole_when_asked_for(workspace, tmp_path):
    model = tiny.gpt2()
    model.save_pretrained(tmp_path / "base")
    for name, value in model.named_parameters():
        if name.endswith(("c_attn.weight", "ln_f.weight")):
            value.data += 0.01
    model.save_pretrained(tmp_path / "tuned")
    left = workspace.extract(tmp_path / "tuned", tmp_path / "base", rank=1, out=tmp_path / "a")
    assert 0 < left.report.left_out_share < 0.1
    made = workspace.extract(
        tmp_path / "tuned", tmp_path / "base", rank=1, out=tmp_path / "b", keep_full=True
    )
    assert (made.report.left_out, made.report.saved) == ((), ("transformer.ln_f",))


def test_a_new_head_alone_comes_out_of_a_model_without_linear_layers(workspace, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2Model

    sizes = {"vocab_size": 64, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 32}
    torch.manual_seed(0)
    bare = GPT2Model(GPT2Config(pad_token_id=0, **sizes))  # its layers are Conv1D
    bare.save_pretrained(tmp_path / "base")
    tuned = GPT2ForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    tuned.save_pretrained(tmp_path / "tuned")
    made = workspace.extract(tmp_path / "tuned", tmp_path / "base", rank=4, out=tmp_path / "out")
    assert made.report.saved == ("score",)
    again = GPT2ForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    live = PeftModel.from_pretrained(again, tmp_path / "out").eval()
    asked = torch.tensor([[3, 5, 7]])
    with torch.no_grad():
        assert torch.equal(live(asked).logits, tuned.eval()(asked).logits)


def test_learned_positions_that_take_no_row_numbers_are_no_low_rank_update(workspace, tmp_path):
    """PEFT's LoRA hands an embedding numbers of rows; OPT's positions take an attention mask."""
    from transformers import OPTConfig, OPTForCausalLM

    sizes = {"vocab_size": 64, "hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 32}
    model = OPTForCausalLM(OPTConfig(num_hidden_layers=1, num_attention_heads=4, **sizes))
    model.save_pretrained(tmp_path / "base")
    positions = "model.decoder.embed_positions.weight"
    for name, value in model.named_parameters():
        if name in {positions, "model.decoder.embed_tokens.weight"}:
            value.data += 0.01
    model.save_pretrained(tmp_path / "tuned")
    made = workspace.extract(tmp_path / "tuned", tmp_path / "base", rank=2, out=tmp_path / "out")
    assert made.report.left_out == (positions,)
    assert "model.decoder.embed_tokens" in made.report.ranks


@pytest.mark.parametrize(
    ("names", "keep_full", "said"),
    [
        (
            ("norm.weight",),
            False,
            "PEFT has no low-rank update for such: 1 tensor (0.5 of the whole change; saved with --keep-full), such",
        ),
        (
            ("norm.weight", "query_tokens"),
            False,
            "change; saved with --keep-full, but for query_tokens), such as norm.weight, query_tokens",
        ),
        (
            ("query_tokens",),
            False,
            "no adapter of PEFT brings such: 1 tensor (0.5 of the whole change), such as query_tokens",
        ),
        (
            ("model.mask",),
            True,
            "no adapter of PEFT brings such: 1 tensor (0.5 of the whole change), such as model.mask",
        ),
    ],
)
def test_what_is_left_out_names_keep_full_where_that_saves_it(names, keep_full, said):
    report = ExtractReport(1, {}, Loss(0.0, {}), names, 0.5)
    assert said in left_out(report, keep_full=keep_full)
