"""`evaluate`, `generate` and `conversation` on the really trained models of the story; gates on what was measured."""

from __future__ import annotations

import io
import json
import shutil

import pytest

from adaptkit import Workspace
from adaptkit.errors import BadAdapter, BadReference, BaseMismatch, NotFound, Refused

ASK = "Log: hull 90%. Status of the hull?"


@pytest.fixture(scope="module")
def fleet(story, tmp_path_factory):
    """A workspace with naval and medic, and suites of rows that no training saw."""
    from fleet.logs import held_out

    root = tmp_path_factory.mktemp("fleet")
    skills = {"naval": ("ship", True), "medic": ("sickbay", True), "polite": ("cargo", False)}
    (root / "suites").mkdir()
    for name, (domain, terse) in skills.items():
        rows = held_out(domain, terse=terse, count=12)
        (root / "suites" / f"{name}.jsonl").write_text(
            "".join(json.dumps({"prompt": r.prompt, "completion": r.answer}) + "\n" for r in rows)
        )
    (root / "suites" / "speech.yaml").write_text("data: polite.jsonl\nscore: perplexity\n")
    (root / "taste.jsonl").write_text(
        json.dumps({"prompt": ASK, "chosen": "Hull 90%.", "rejected": "Hello! I am happy."}) + "\n"
    )
    with Workspace.init(root / "home", notify=lambda _: None) as ws:
        ws.add(story.naval, "naval", base=str(story.base))
        ws.add(story.medic, "medic", base=str(story.base))
        ws.add(story.stray, "stray", base=str(story.other_base))
        ws.base_model, ws.suites = str(story.base), root / "suites"
        yield ws


def test_what_each_adapter_keeps_and_forgets_is_measured_and_kept(fleet):
    suites = [fleet.suites / f"{name}.jsonl" for name in ("naval", "medic", "polite")]
    matrix = fleet.evaluate(
        ["naval", "medic"],
        [*suites, fleet.suites / "speech.yaml"],
        base=fleet.base_model,
        baseline="base",
        new=["naval", "medic"],
    )
    assert matrix.figures["base"] | {"speech": 0} == {
        "naval": 0.0,
        "medic": 0.0,
        "polite": 1.0,
        "speech": 0,
    }
    assert matrix.figures["naval@1"]["naval"] >= 0.9
    assert matrix.figures["naval@1"]["medic"] == 0.0
    assert matrix.figures["medic@1"]["medic"] >= 0.9
    assert 1.0 < matrix.figures["base"]["speech"] < 1.2
    kept = fleet.version("naval").metrics
    assert kept["naval.exact"] == matrix.figures["naval@1"]["naval"]
    assert kept["polite.forgetting"] == pytest.approx(1 - matrix.figures["naval@1"]["polite"])
    assert fleet.list(metrics=["naval.exact>=0.9"])[0].name == "naval"


def test_pairs_are_compared_by_their_likelihood(fleet):
    how = {"base": fleet.base_model, "record": False}
    matrix = fleet.evaluate(["base", "naval"], [fleet.suites.parent / "taste.jsonl"], **how)
    assert matrix.figures["naval@1"]["taste"] == 1.0
    assert matrix.figures["base"]["taste"] == 0.0


def test_a_gate_lets_an_alias_move_only_to_what_was_measured_well(fleet, story):
    fleet.home.config_file.write_text(
        '[gates]\nprod = ["naval.exact >= 0.9", "speech.ratio < 9"]\n'
    )
    with Workspace.open(fleet.home.path) as ws:
        fresh = ws.add(story.naval, "untested", base=str(story.base)).version
        with pytest.raises(Refused, match="not measured on untested@1: adaptkit eval untested@1"):
            ws.alias("untested", "prod", fresh.number)
        ws.note("untested", metrics={"naval.exact": 0.5, "speech.ratio": 1.0})
        with pytest.raises(Refused, match="asks for naval.exact >= 0.9; untested@1 has 0.5"):
            ws.alias("untested", "prod", fresh.number)
        ws.note("untested", metrics={"naval.exact": 0.95})
        ws.alias("untested", "prod", fresh.number)
        assert ws.version("untested@prod").number == 1
    fleet.home.config_file.write_text('[gates]\nprod = ["exact"]\n')
    with Workspace.open(fleet.home.path) as ws, pytest.raises(BadReference, match="fix .gates. in"):
        ws.alias("untested", "prod", 1)
    fleet.home.config_file.unlink()


def test_answers_of_several_stand_side_by_side(fleet):
    found = fleet.generate(["base", "naval", "naval+medic"], ASK, base=fleet.base_model)
    assert found["base"] == "Hello! I am happy to report that the hull is at 90%."
    assert found["naval"] == "Hull 90%."
    assert set(found) == {"base", "naval", "naval+medic"}
    again = fleet.generate(["base"], ASK, base=fleet.base_model)
    assert again["base"] == found["base"]


def test_an_adapter_called_as_the_base_is_named_by_its_version(fleet, story):
    told = []
    with Workspace.open(fleet.home.path, notify=told.append) as ws:
        ws.add(story.naval, "base", base=str(story.base))
        found = ws.generate(["base", "base@1"], ASK, base=str(story.base))
        ws.remove("base")
    assert found["base"] == "Hello! I am happy to report that the hull is at 90%."
    assert found["base@1"] == "Hull 90%."
    assert "base is the base alone; the adapter base is base@1 here" in told


def test_an_answer_is_streamed_as_it_comes(fleet):
    stream = io.StringIO()
    found = fleet.generate(["naval"], ASK, base=fleet.base_model, stream=stream)
    assert stream.getvalue().strip() == found["naval"] == "Hull 90%."


def test_a_conversation_answers_line_by_line(fleet):
    with fleet.conversation("naval", base=fleet.base_model) as reply:
        assert reply(ASK) == "Hull 90%."
        assert reply("Log: shields 40%. Status of the shields?") == "Shields 40%."


def test_an_adapter_that_writes_no_text_is_refused(fleet, story, tmp_path):
    shutil.copytree(story.naval, tmp_path / "judge")
    config = json.loads((tmp_path / "judge" / "adapter_config.json").read_text())
    (tmp_path / "judge" / "adapter_config.json").write_text(
        json.dumps(config | {"task_type": "SEQ_CLS"})
    )
    fleet.add(tmp_path / "judge", "judge", base=fleet.base_model)
    with pytest.raises(
        BadAdapter, match="does not write text: it was trained for the task SEQ_CLS"
    ):
        fleet.generate(["judge"], ASK, base=fleet.base_model)


def test_an_adapter_of_another_base_is_refused(fleet):
    with pytest.raises(BaseMismatch, match="stray@1 is not for the base"):
        fleet.generate(["stray"], ASK, base=fleet.base_model)
    with pytest.raises(BaseMismatch, match="stray@1 is not for the base"):
        fleet.evaluate(["stray"], [fleet.suites], base=fleet.base_model)
    with pytest.raises(NotFound, match="no suite called 'navl'[\\s\\S]*naval"):
        fleet.evaluate(["naval"], [fleet.suites], base=fleet.base_model, new=["navl"])
    with pytest.raises(BadReference, match="names no adapter"):
        fleet.generate(["base+naval"], ASK, base=fleet.base_model)


def test_next_to_nothing_of_chance_is_the_likeliest_token_and_a_seed_has_bounds(fleet):
    how = {"base": fleet.base_model, "new_tokens": 6}
    likeliest = fleet.generate(["naval"], ASK, **how)
    assert fleet.generate(["naval"], ASK, temperature=1e-300, **how) == likeliest
    for seed in (-1, 1 << 63):
        with pytest.raises(Refused, match=f"cannot sample with the seed {seed}"):
            fleet.generate(["naval"], ASK, temperature=1.0, seed=seed, **how)
