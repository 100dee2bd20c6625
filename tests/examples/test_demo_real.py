"""The demo on SmolLM2-135M, when that is installed: distilling keeps what every fixed-weight merge loses."""

from __future__ import annotations

import re

import pytest

from real import data
from real.smollm2 import INSTALL, package, smollm2


def test_a_skill_told_apart_by_a_prefix_has_an_answer_of_its_own_for_one_question():
    navy = {row.prompt: row.answer for row in data.skill_rows("navy", held_out=False, count=20)}
    alert = {row.prompt: row.answer for row in data.skill_rows("alert", held_out=False, count=20)}
    assert {p.removeprefix("NAVAL: ") for p in navy} == {p.removeprefix("ALERT: ") for p in alert}
    prompt, answer = next(iter(alert.items()))
    system, amount = re.fullmatch(
        r"ALERT: Log: (\w+) (\d+%)\. Status of the \w+\?", prompt
    ).groups()
    assert answer == f"[{amount}] {system}!"
    assert navy[prompt.replace("ALERT", "NAVAL")] == f"{system.capitalize()} {amount}."


def test_no_prompt_that_is_scored_is_trained_on(tmp_path):
    for skill in data.SKILLS:
        trained = {row.prompt for row in data.skill_rows(skill, held_out=False, count=data.TRAINED)}
        scored = {row.prompt for row in data.skill_rows(skill, held_out=True, count=data.ASKED)}
        assert len(trained) == data.TRAINED
        assert not trained & scored


@pytest.mark.soak
def test_on_a_really_pretrained_model_distilling_keeps_both_skills(tmp_path):
    if package() is None:
        pytest.skip(INSTALL)
    import demo_real

    rows = demo_real.tell(smollm2(), tmp_path, steps=40, distil_steps=20)
    figures = {(row["pair"], row["what"]): row["figures"] for row in rows}
    for pair, skills in data.PAIRS.items():
        for at, skill in enumerate(skills):
            assert figures[pair, "base"][at] <= 0.1
            assert figures[pair, skill][at] >= 0.9
        assert min(figures[pair, f"distilled from it, rank {demo_real.RANK}"]) >= 0.9
    assert min(figures["by a prefix", "cat, 0.8"]) < 0.9
