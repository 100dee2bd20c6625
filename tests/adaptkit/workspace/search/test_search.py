"""`search` on a tiny base: really merged, really scored; resumed, repeated, on workers, registered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import talking
from concurrency import exit_code

from adaptkit import Workspace
from adaptkit.cli import main
from adaptkit.errors import BadRecipe, Conflict, MissingExtra, NotFound, Refused
from adaptkit.search import study

HELD = """
import sys
from adaptkit import Workspace
from adaptkit.search import study

note, home, suite, base, url = study._note, *sys.argv[1:]

def held(*result):  # the trial is scored and noted, and its result not yet told
    note(*result)
    print("noted", flush=True)
    sys.stdin.readline()

study._note = held
with Workspace.open(home, notify=lambda _: None) as ws:
    how = {"base": base, "name": "bridge", "study": "team", "storage": url, "dry_run": True}
    ws.search(["naval", "medic"], [suite], trials=3, **how)
"""

SOAK = pytest.mark.soak


@pytest.fixture
def ask(two, talker, tmp_path):
    """`search` with a suite whose perplexity tells every merge from every other."""
    talking.save_prompts(tmp_path / "rows.jsonl", 5, 6, answer="w3 w4")
    (tmp_path / "speech.yaml").write_text("data: rows.jsonl\nscore: perplexity\n")

    def search(**how):
        given = {"base": str(talker), "name": "bridge", "trials": 4} | how
        return two.search(["naval", "medic"], [tmp_path / "speech.yaml"], **given)

    search.workspace, search.suite, search.base = two, tmp_path / "speech.yaml", talker
    return search


def plain(searched):
    return [one.to_json() for one in searched.found.trials]


def test_the_winner_is_registered_with_its_study_its_parents_and_its_figures(ask):
    searched = ask()
    ws, winner = ask.workspace, searched.found.winner
    assert searched.version.ref == "bridge@1"
    assert winner.skills == max(one.skills for one in searched.found.trials)
    shown = ws.show("bridge")
    assert [(p.label, p.weight) for p in shown.manifest.parents] == [
        ("naval@1", winner.candidate.weights[0]),
        ("medic@1", winner.candidate.weights[1]),
    ]
    facts = shown.manifest.facts["search"]
    assert facts["study"] == searched.found.study
    assert (facts["trial"], facts["trials"]) == (winner.number, 4)
    # the figure of the trial is that of the registered version, asked anew
    again = ws.evaluate(["bridge"], [ask.suite], base=str(ask.base), record=False)
    assert again.figures["bridge@1"]["speech"] == pytest.approx(winner.figures["speech"], rel=1e-5)
    assert searched.version.metrics["speech.perplexity"] == pytest.approx(
        winner.figures["speech"], rel=1e-5
    )


def test_a_search_beats_or_equals_equal_weights_which_are_tried_first(ask):
    found = ask().found
    first = found.trials[0]
    assert first.candidate.weights == (0.8, 0.8)
    assert first.candidate.strategy == "linear"
    assert found.winner.skills >= first.skills


def test_the_same_seed_tries_the_same_merges_and_another_seed_others(ask):
    one = plain(ask(seed=1, study="one", dry_run=True))
    again = plain(ask(seed=1, study="again", dry_run=True))
    other = plain(ask(seed=2, study="other", dry_run=True))
    assert one == again
    assert one[0] == other[0]  # what must be beaten
    assert one[1:] != other[1:]


def test_a_finished_search_is_not_done_again_and_a_longer_one_goes_on(ask):
    first = ask(trials=4, dry_run=True)
    assert plain(ask(trials=4, dry_run=True)) == plain(first)
    longer = ask(trials=6, dry_run=True)
    assert longer.found.study == first.found.study
    assert plain(longer)[:4] == plain(first)
    assert len(longer.found.trials) == 6


@pytest.mark.long
@pytest.mark.parametrize("after", [pytest.param(0, marks=SOAK), 2, pytest.param(5, marks=SOAK)])
def test_a_killed_search_goes_on_and_ends_like_one_that_was_not(ask, after):
    expected = plain(ask(trials=6, seed=3, study="whole", dry_run=True))
    keep, seen = study._keep, []

    def killed(*result):
        if len(seen) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(1)
        keep(*result)

    def search():
        study._keep = killed
        with Workspace.open(ask.workspace.home.path, notify=lambda _: None) as ws:
            how = {"base": str(ask.base), "name": "bridge", "trials": 6, "seed": 3}
            ws.search(["naval", "medic"], [str(ask.suite)], **how)

    assert exit_code(search) == -signal.SIGKILL
    assert plain(ask(trials=6, seed=3, dry_run=True)) == expected


@SOAK
def test_workers_find_what_one_process_finds(ask):
    here = plain(ask(study="here", dry_run=True, strategies=["linear", "ties"]))
    there = plain(ask(study="there", dry_run=True, strategies=["linear", "ties"], on="local"))
    assert here == there


def test_what_uses_moments_is_tried_where_every_adapter_has_them(ask, talker, tmp_path):
    strategies = {one.candidate.strategy for one in ask(study="before", dry_run=True).found.trials}
    assert strategies == {"linear"}
    for name in ("naval", "medic"):
        ask.workspace.calibrate(name, str(talker), tmp_path / f"{name}.jsonl", rows=4)
    after = ask(study="after", dry_run=True, trials=8).found.trials
    assert {one.candidate.strategy for one in after} == {"linear", "regmean"}
    assert not any(one.error for one in after)


def test_a_merge_that_cannot_be_made_is_a_failed_trial_and_not_the_end(ask):
    found = ask(
        strategies=["linear", "nuslerp", "tsv"], params={"keep": "0:1"}, trials=8, dry_run=True
    ).found
    assert len(found.trials) == 8
    assert not found.winner.error


def test_a_study_that_asks_something_else_is_refused_by_name(ask):
    ask(study="mine", dry_run=True, trials=1)
    with pytest.raises(Refused) as caught:
        ask(study="mine", dry_run=True, trials=1, ranks=[2])
    assert caught.value.what == "the study mine asks something else"
    assert caught.value.fix == "--study mine-2"


def test_a_search_that_is_running_is_refused(ask):
    from filelock import FileLock

    ask(study="mine", dry_run=True, trials=1)
    with (
        FileLock(ask.workspace.home.path / "search" / "mine.lock"),
        pytest.raises(Conflict, match="the search 'mine' is running already"),
    ):
        ask(study="mine", dry_run=True, trials=1)


@pytest.mark.parametrize(
    ("how", "kind", "what"),
    [
        ({"strategies": ["tiez"]}, NotFound, "no strategy called 'tiez'"),
        ({"spaces": ["dence"]}, NotFound, "no space of these strategies called 'dence'"),
        ({"ranks": [0]}, BadRecipe, "--rank is 0"),
        ({"trials": 0}, BadRecipe, "cannot search for bridge"),
        ({"params": {"x": "1"}}, NotFound, "no parameter of 'linear' called 'x'"),
    ],
)
def test_impossible_choices_are_refused_before_anything_is_tried(ask, how, kind, what):
    with pytest.raises(kind) as caught:
        ask(**how)
    assert caught.value.what.startswith(what)
    assert not (ask.workspace.home.path / "search").exists()


def test_a_parameter_that_was_mistyped_is_named_with_the_strategies_that_have_it(ask):
    with pytest.raises(NotFound) as caught:
        ask(params={"densty": "0.5"})
    assert caught.value.summary == "no parameter of 'linear' called 'densty': it takes none"
    assert caught.value.fix.startswith("density is a parameter of ")
    with pytest.raises(NotFound, match="no parameter of 'ties' called 'densty': known are density"):
        ask(params={"densty": "0.5"}, strategies=["ties"])


def test_one_adapter_alone_is_no_search(ask, talker):
    with pytest.raises(BadRecipe, match="it takes two adapters or more, each once"):
        ask.workspace.search(["naval"], [ask.suite], base=str(talker), name="bridge")
    with pytest.raises(BadRecipe, match="it takes two adapters or more, each once"):
        ask.workspace.search(["naval", "naval@1"], [ask.suite], base=str(talker), name="bridge")


def test_without_optuna_the_line_that_installs_it_is_shown(ask, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra) as caught:
        ask()
    assert caught.value.what.startswith("cannot search for bridge")
    assert "[search]" in caught.value.fix


def test_a_storage_that_cannot_be_opened_is_named_without_its_password(ask):
    from adaptkit.errors import AdaptkitError

    with pytest.raises(AdaptkitError) as caught:
        ask(storage="postgresql+psycopg://ada:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)
    assert "ada:***@127.0.0.1" in caught.value.why


def test_drivers_share_a_study_in_one_storage(ask, tmp_path):
    url = f"sqlite:///{tmp_path}/team.db"
    first = ask(storage=url, study="team", trials=3, dry_run=True)
    both = ask(storage=url, study="team", trials=6, dry_run=True)
    assert plain(both)[:3] == plain(first)
    assert len(both.found.trials) == 6
    assert both.found.storage == url


@SOAK
def test_two_drivers_share_a_study_on_postgresql_and_what_a_killed_one_was_at_is_done_again(
    ask, postgres
):
    import optuna

    url = postgres.database()
    home, suite, base = ask.workspace.home.path, ask.suite, ask.base
    with subprocess.Popen(
        [sys.executable, "-c", HELD, str(home), str(suite), str(base), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        try:
            assert driver.stdout.readline() == "noted\n"
            how = {"storage": url, "study": "team", "dry_run": True}
            while_it_works = ask(trials=2, **how).found
            # the other driver's trial is neither handed out again nor shown as one that is finished
            assert [one.number for one in while_it_works.trials] == [1, 2]
            assert all(one.size and one.skills for one in while_it_works.front)
        finally:
            driver.kill()
    postgres.sql("UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour'", url)
    found = ask(trials=4, **how).found
    assert len(found.trials) == 4
    storage = optuna.storages.RDBStorage(url)
    trials = optuna.load_study(study_name="team", storage=storage).get_trials()
    storage.remove_session()
    storage.engine.dispose()
    assert trials[0].state == optuna.trial.TrialState.FAIL
    again = [t for t in trials if t.system_attrs.get("failed_trial") == 0]
    assert [(t.params, t.state.name) for t in again] == [(trials[0].params, "COMPLETE")]
    assert again[0].number in {one.number for one in found.trials}
    assert 0 not in {one.number for one in found.trials}


def test_the_command_prints_the_front_writes_the_picture_and_registers(ask, tmp_path, capsys):
    ws, png = ask.workspace, tmp_path / "front.png"
    line = ["--home", str(ws.home.path), "search", "naval", "medic", "--suite", str(ask.suite)]
    line += ["--base", str(ask.base), "--name", "bridge", "--trials", "4", "--png", str(png)]
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["registered"]["ref"] == "bridge@1"
    assert found["winner"] == found["front"][-1]
    assert len(found["trials"]) == 4
    assert png.read_bytes().startswith(b"\x89PNG")
    assert main(line) == 0
    assert capsys.readouterr().out.splitlines()[0].split("\t")[:4] == [
        "trial",
        "skills",
        "size",
        "speech",
    ]
