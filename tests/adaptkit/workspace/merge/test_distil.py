"""adaptkit.workspace.merge.distil: a merged adapter learns to say what its parents say."""

from __future__ import annotations

import json

import pytest
import talking
import tiny

from adaptkit.errors import AdaptkitError, BadRecipe, BaseMismatch, NotFound


@pytest.fixture
def bridge(two, tmp_path):
    """A merge of the two that is not what either says."""
    two.merge(["naval", "medic"], rank=4, name="bridge")
    talking.save_prompts(tmp_path / "rest.jsonl", 15, 10)
    return two


def data(tmp_path):
    return {name: tmp_path / f"{name}.jsonl" for name in ("naval", "medic")}


def test_held_out_prompts_come_closer_to_every_parent_and_to_the_base(bridge, talker, tmp_path):
    done = bridge.distil(
        "bridge", talker, data(tmp_path), keep=tmp_path / "rest.jsonl", steps=20, rate=1e-2
    )
    report = done.report
    assert set(report.after) == {"naval", "medic", "the base"}
    for label, after in report.after.items():
        assert after.divergence < 0.9 * report.before[label].divergence
        assert after.same >= report.before[label].same
    assert 0 < report.kept <= report.steps <= 20


def test_the_result_is_the_next_version_with_its_parents_and_the_same_rank(
    bridge, talker, tmp_path
):
    from transformers import LlamaForCausalLM

    before = bridge.version("bridge")
    done = bridge.distil("bridge", talker, data(tmp_path), steps=3, message="closer")
    assert (done.version.ref, done.version.rank, done.version.message) == ("bridge@2", 4, "closer")
    manifest = bridge.show("bridge").manifest
    assert [(p.role, p.label) for p in manifest.parents] == [
        ("distilled", "bridge@1"),
        ("teacher", "naval"),
        ("teacher", "medic"),
    ]
    assert manifest.parents[0].digest == before.digest
    assert manifest.facts["distilled"]["steps"] == 3
    assert manifest.base.levels == before.base.levels
    model = LlamaForCausalLM.from_pretrained(talker)
    assert bridge.load("bridge", model).peft_config


def test_prompts_that_all_have_their_answers_teach_too(bridge, talker, tmp_path):
    for name, path in data(tmp_path).items():
        rows = [json.loads(line) | {"completion": name} for line in path.read_text().splitlines()]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    report = bridge.distil("bridge", talker, data(tmp_path), steps=20, rate=1e-2).report
    assert report.kept > 0
    assert all(
        look.divergence < report.before[label].divergence for label, look in report.after.items()
    )


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(bridge, talker, tmp_path):
    digests = [
        bridge.distil(
            "bridge@1", talker, data(tmp_path), steps=4, seed=seed, name=f"b{i}"
        ).version.digest
        for i, seed in enumerate((1, 1, 2))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_steps_that_do_not_help_are_not_kept_and_end_early(bridge, talker, tmp_path):
    done = bridge.distil("bridge", talker, data(tmp_path), steps=1000, rate=1.0, name="wild")
    assert done.report.steps < 1000
    assert all(
        after.divergence <= done.report.before[label].divergence * 1.5
        for label, after in done.report.after.items()
    )


def test_a_parent_without_prompts_is_named(bridge, talker, tmp_path):
    bridge.distil("bridge", talker, {"naval": tmp_path / "naval.jsonl"}, steps=1)
    assert (
        "no prompts are given for medic, which went into bridge@1: that skill may be lost"
        in bridge.noticed
    )


def test_one_prompt_under_two_parents_is_refused(bridge, talker, tmp_path):
    talking.save_prompts(tmp_path / "medic.jsonl", 0, 3)
    with pytest.raises(AdaptkitError, match=r"line 1 of .*medic\.jsonl is a prompt of naval too"):
        bridge.distil("bridge", talker, data(tmp_path))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"steps": 0}, "--steps is 0: it is from 1 to 100000"),
        ({"rate": 0.0}, "--rate is 0.0"),
        ({"batch": 0}, "--batch is 0"),
        ({"held_out": 1.0}, "--held-out is 1.0: it is from 0.01 to 0.9"),
        ({"data": {}}, "cannot distil bridge: no parent's prompts are given"),
    ],
)
def test_impossible_choices_are_refused(bridge, talker, tmp_path, change, why):
    with pytest.raises(BadRecipe) as caught:
        bridge.distil("bridge", talker, **{"data": data(tmp_path), **change})
    assert why in str(caught.value)


def test_parents_that_are_gone_and_files_of_one_prompt_are_named(bridge, talker, tmp_path):
    with pytest.raises(NotFound, match="no adapter called 'pilot'"):
        bridge.distil("bridge", talker, {"pilot": tmp_path / "naval.jsonl"})
    one = talking.save_prompts(tmp_path / "one.jsonl", 0, 1)
    with pytest.raises(AdaptkitError, match=r"one\.jsonl has one prompt"):
        bridge.distil("bridge", talker, {"naval": one})


def test_another_base_is_refused(bridge, tmp_path):
    other = talking.save_base(tmp_path / "other")
    tiny.save_llama(other, seed=9, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    with pytest.raises(BaseMismatch, match="are for different bases"):
        bridge.distil("bridge", other, data(tmp_path))
