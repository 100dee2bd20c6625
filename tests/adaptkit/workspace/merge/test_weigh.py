"""adaptkit.workspace.merge.weigh: weights of a merge from its parents' prompts, kept in an ordinary recipe."""

from __future__ import annotations

import pytest
import talking
import tiny

from adaptkit.cli.merge.weigh import described
from adaptkit.errors import AdaptkitError, BadBase, BadRecipe, BaseMismatch, NotFound, Unmergeable
from adaptkit.refs import WeightedRef, parse

PAIR = ["naval", "medic"]


def data(tmp_path):
    return {name: tmp_path / f"{name}.jsonl" for name in PAIR}


def test_the_weights_become_a_recipe_that_repeats_without_data_or_base(two, talker, tmp_path):
    weighed = two.weigh({"naval": 0.8, "medic": 0.6}, talker, data(tmp_path), steps=10, rate=0.05)
    report = weighed.report
    assert set(report.held_out) == set(PAIR)
    assert sum(look.after for look in report.held_out.values()) <= sum(
        look.before for look in report.held_out.values()
    )
    assert len(report.weights["naval"]) == 14
    head, naval, medic = described(weighed)
    assert head.startswith(f"  weighed by null-space compression: {report.steps} steps, kept step")
    assert naval.startswith("  naval: weights 0.")
    assert medic.endswith(f"{report.held_out['medic'].alone:.1%} alone")
    merged = two.merge(weighed.sources, name="bridge", facts=weighed.facts)
    modules = merged.recipe.canonical()["modules"]
    by_digest = {two.version(name).digest: name for name in PAIR}
    assert {(by_digest[one["digest"]], one["glob"]): one["values"] for one in modules} == {
        (name, module): [weight]
        for name, found in report.weights.items()
        for module, weight in found.items()
    }
    recorded = two.show("bridge").manifest.facts["weighed"]
    assert (recorded["by"], recorded["seed"], recorded["data"]["naval"][1]) == ("null-space", 0, 20)
    again = two.merge(
        [
            WeightedRef(parse(name), weight, {m: (w,) for m, w in report.weights[name].items()})
            for name, weight in (("naval", 0.8), ("medic", 0.6))
        ],
        out=tmp_path / "again",
    )
    assert (again.recipe.digest, again.manifest.digest) == (
        merged.recipe.digest,
        merged.manifest.digest,
    )


@pytest.mark.parametrize(
    ("sources", "given", "kind", "message"),
    [
        (["naval"], PAIR, BadRecipe, "cannot weigh naval: it takes two adapters or more"),
        (
            PAIR,
            ["naval"],
            BadRecipe,
            "cannot weigh medic: no prompts of its own are given, so nothing shows what it reads",
        ),
        (["naval", *PAIR], PAIR, BadRecipe, "cannot weigh naval twice: one weight is chosen"),
        (PAIR, [*PAIR, "pilot"], NotFound, "no source of this merge called 'pilot'"),
        (
            ["naval", WeightedRef(parse("medic"), 1.0, {"*": (0.5,)})],
            PAIR,
            BadRecipe,
            "medic has weights by module already",
        ),
    ],
)
def test_sources_and_prompts_that_do_not_fit_are_refused(
    two, talker, tmp_path, sources, given, kind, message
):
    files = {name: tmp_path / f"{name}.jsonl" for name in given}
    with pytest.raises(kind) as caught:
        two.weigh(sources, talker, files)
    assert message in str(caught.value)


def test_impossible_choices_and_files_are_refused(two, talker, tmp_path):
    with pytest.raises(BadRecipe, match="--steps is 0: it is from 1 to 100000"):
        two.weigh(PAIR, talker, data(tmp_path), steps=0)
    talking.save_prompts(tmp_path / "medic.jsonl", 0, 3)
    with pytest.raises(AdaptkitError, match=r"line 1 of .*medic\.jsonl is a prompt of naval too"):
        two.weigh(PAIR, talker, data(tmp_path))


def test_an_adapter_without_low_rank_factors_is_named(two, talker, tmp_path):
    from peft import IA3Config, get_peft_model
    from transformers import LlamaForCausalLM

    config = IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    tiny.save(get_peft_model(LlamaForCausalLM.from_pretrained(talker), config), tmp_path / "ia3")
    two.add(tmp_path / "ia3", "scaled", base=str(talker))
    files = {"naval": tmp_path / "naval.jsonl", "scaled": tmp_path / "medic.jsonl"}
    with pytest.raises(Unmergeable) as caught:
        two.weigh(["naval", "scaled"], talker, files)
    assert str(caught.value).startswith(
        "cannot weigh scaled: adapters of the method ia3 have no low-rank factors, and weights are chosen by the rows of A"
    )


def test_a_base_that_is_missing_or_another_is_refused(two, tmp_path):
    with pytest.raises(BadBase, match="nowhere"):
        two.weigh(PAIR, tmp_path / "nowhere", data(tmp_path))
    other = talking.save_base(tmp_path / "other")
    tiny.save_llama(other, seed=9, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    with pytest.raises(BaseMismatch, match="are for different bases"):
        two.weigh(PAIR, other, data(tmp_path))
