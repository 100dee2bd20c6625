"""A sweep on tiny models: planned, carried out, done once, gone on with after a kill at every step."""

from __future__ import annotations

import json
import os
import signal
from functools import partial

import pytest
from concurrency import at_once, exit_code

from adaptkit import Workspace
from adaptkit.errors import AdaptkitError, BadReference, BadSweep, Conflict, NotFound
from adaptkit.workspace.sweeps.board import Board, picture
from adaptkit.workspace.sweeps.file import read
from adaptkit.workspace.sweeps.journal import Journal

NIGHTLY = """
name: nightly
base: {base}
sets:
  skills: {{tag: approved, name: "*-skill"}}
steps:
  - evaluate: {{of: skills, suites: [speech.yaml], baseline: base}}
  - gate: {{of: skills, require: ["speech.perplexity < 1e9"]}}
  - merge: {{of: skills, name: bridge, strategy: ties, params: {{density: 0.5}}, weights: {{naval-skill: 0.5}}}}
  - evaluate: {{of: bridge, suites: [speech.yaml], baseline: base}}
  - gate: {{of: bridge, require: ["speech.perplexity < {limit}"]}}
  - alias: {{of: bridge, to: staging}}
  - push: {{of: bridge, to: team}}
  - bake: {{of: bridge, out: "models/{{name}}-{{number}}"}}
"""


@pytest.fixture(scope="module")
def made(speaker, tmp_path_factory):
    """Two adapters, three rows to ask, a remote: copied into a fresh workspace by each test."""
    import tiny

    root = tmp_path_factory.mktemp("sweep")
    for seed, name in enumerate(("naval", "medic"), 1):
        tiny.save_adapter(speaker, root / name, seed=seed, r=4, target_modules=["q_proj"])
    return root


@pytest.fixture
def nightly(workspace, made, speaker, tmp_path):
    rows = [{"prompt": f"hull {v}%?", "completion": f"Hull {v}."} for v in (10, 11, 12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "speech.yaml").write_text("data: rows.jsonl\nscore: perplexity\n")
    for name in ("naval", "medic"):
        workspace.add(made / name, f"{name}-skill", base=str(speaker))
        workspace.note(f"{name}-skill", tags=["approved"])
    workspace.set_remote("team", f"file://{tmp_path}/team")

    def write(limit="1e9", text=NIGHTLY):
        (tmp_path / "nightly.yaml").write_text(text.format(base=speaker, limit=limit))
        return tmp_path / "nightly.yaml"

    return write


def sweep_and_die(home, file, when, count):
    """Run the sweep in a process that is killed before or after it notes that many entries."""
    note, seen = Journal.note, []

    def killed(self, *entry):
        seen.append(entry)
        if when == "before" and len(seen) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        note(self, *entry)
        if when == "after" and len(seen) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    def sweep():
        Journal.note = killed
        with Workspace.open(home, notify=lambda _: None) as ws:
            ws.sweep(file)

    assert exit_code(sweep) == -signal.SIGKILL


def carry_out(workspace, path, **how):
    return workspace.sweep(path, **how)


def statuses(swept):
    return [(task.kind, task.what, task.status) for task in swept.tasks]


EVERYTHING = [
    ("evaluate", "medic-skill@1"),
    ("evaluate", "naval-skill@1"),
    ("gate", "medic-skill@1"),
    ("gate", "naval-skill@1"),
    ("merge", "bridge@1"),
    ("evaluate", "bridge@1"),
    ("gate", "bridge@1"),
    ("alias", "bridge@1"),
    ("push", "bridge@1"),
    ("bake", "bridge@1"),
]


def test_a_plan_names_what_is_to_do_and_what_waits_for_it_and_does_nothing(workspace, nightly):
    planned = carry_out(workspace, nightly(), dry_run=True)
    assert statuses(planned) == [
        ("evaluate", "medic-skill@1", "to do"),
        ("evaluate", "naval-skill@1", "to do"),
        ("gate", "medic-skill@1", "waits"),
        ("gate", "naval-skill@1", "waits"),
        ("merge", "bridge@?", "waits"),
        ("evaluate", "bridge@?", "waits"),
        ("gate", "bridge@?", "waits"),
        ("alias", "bridge@?", "waits"),
        ("push", "bridge@?", "waits"),
        ("bake", "bridge@?", "waits"),
    ]
    assert not (workspace.home.path / "sweeps").exists()
    assert {version.name for version in workspace.list()} == {"naval-skill", "medic-skill"}


def test_a_sweep_does_everything_once_and_a_second_run_nothing(workspace, nightly, tmp_path):
    first = carry_out(workspace, nightly())
    assert [(kind, what) for kind, what, _ in statuses(first)] == EVERYTHING
    assert {status for _, _, status in statuses(first) if _ != "gate"} == {"made"} | {"done"}
    bridge = workspace.version("bridge")
    assert bridge.aliases == ("staging",)
    assert bridge.metrics.keys() == {"speech.perplexity", "speech.ratio"}
    assert [p.place for p in workspace.show("bridge").placements] == [
        f"file://{tmp_path}/team/bridge"
    ]
    weights = {p.label: p.weight for p in workspace.show("bridge").parents}
    assert weights == {"medic-skill@1": 1.0, "naval-skill@1": 0.5}
    assert (tmp_path / "models" / "bridge-1" / "model.safetensors").is_file()
    before = len(workspace.events())
    second = carry_out(workspace, nightly())
    assert [(kind, what) for kind, what, _ in statuses(second)] == EVERYTHING
    assert {status for _, _, status in statuses(second)} == {"done"}
    assert len(workspace.events()) == before
    assert statuses(carry_out(workspace, nightly(), dry_run=True)) == statuses(second)


def test_other_rows_are_another_task_and_the_merge_is_not_made_again(workspace, nightly, tmp_path):
    carry_out(workspace, nightly())
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    again = carry_out(workspace, nightly())
    made = [(kind, what) for kind, what, status in statuses(again) if status == "made"]
    assert made == [
        ("evaluate", "medic-skill@1"),
        ("evaluate", "naval-skill@1"),
        ("evaluate", "bridge@1"),
    ]


def test_a_parent_that_moved_is_swept_again(workspace, nightly, made, speaker, tmp_path):
    import tiny

    carry_out(workspace, nightly())
    tiny.save_adapter(speaker, tmp_path / "naval2", seed=9, r=4, target_modules=["q_proj"])
    workspace.add(tmp_path / "naval2", "naval-skill", base=str(speaker))
    workspace.note("naval-skill@2", tags=["approved"])
    again = carry_out(workspace, nightly())
    made_now = [(kind, what) for kind, what, status in statuses(again) if status == "made"]
    assert made_now == [
        ("evaluate", "naval-skill@2"),
        ("merge", "bridge@2"),
        ("evaluate", "bridge@2"),
        ("alias", "bridge@2"),
        ("push", "bridge@2"),
        ("bake", "bridge@2"),
    ]


def test_a_gate_holds_back_what_does_not_pass(workspace, nightly, tmp_path):
    swept = carry_out(workspace, nightly(limit="0.5"))
    held, *behind = [task for task in swept.tasks if task.status == "held"]
    assert (held.kind, held.what) == ("gate", "bridge@1")
    assert [(task.kind, task.result) for task in behind] == [
        (kind, "the gate of step 5 held all of 'bridge'") for kind in ("alias", "push", "bake")
    ]
    figure = f"{workspace.version('bridge').metrics['speech.perplexity']:.4g}"
    assert held.result == f"speech.perplexity is {figure}, not < 0.5"
    assert workspace.version("bridge").aliases == ()
    assert not (tmp_path / "team").exists()
    assert not (tmp_path / "models").exists()


SOAK = pytest.mark.soak


@pytest.mark.long
@pytest.mark.parametrize(
    ("when", "count"),
    [
        pytest.param("before", 1, marks=SOAK),
        pytest.param("after", 1, marks=SOAK),
        pytest.param("before", 3, marks=SOAK),
        pytest.param("after", 3, marks=SOAK),
        pytest.param("before", 4, marks=SOAK),
        pytest.param("after", 4, marks=SOAK),
        pytest.param("before", 5, marks=SOAK),
        ("after", 5),
    ],
)
def test_a_killed_sweep_goes_on_and_leaves_one_of_each(workspace, nightly, tmp_path, when, count):
    path = nightly()
    workspace.close()
    sweep_and_die(workspace.home.path, path, when, count)
    swept = carry_out(workspace, path)
    assert [(kind, what) for kind, what, _ in statuses(swept)] == EVERYTHING
    assert len(workspace.list(every=True)) == 3
    assert workspace.version("bridge").aliases == ("staging",)
    assert workspace.fsck().sound
    assert (tmp_path / "models" / "bridge-1" / "model.safetensors").is_file()
    assert {status for _, _, status in statuses(carry_out(workspace, path))} == {"done"}


@pytest.mark.soak
def test_a_kill_between_two_adapters_of_one_evaluation_costs_only_the_second(
    workspace, nightly, tmp_path
):
    sweep_and_die(workspace.home.path, nightly(), "after", 1)
    assert "speech.perplexity" in workspace.version("medic-skill").metrics
    assert workspace.version("naval-skill").metrics == {}
    planned = statuses(carry_out(workspace, nightly(), dry_run=True))
    assert planned[:2] == [
        ("evaluate", "medic-skill@1", "done"),
        ("evaluate", "naval-skill@1", "to do"),
    ]


def test_the_same_sweep_twice_at_once_is_refused_by_name(workspace, nightly):
    file = workspace.home.path / "sweeps" / "nightly.jsonl"
    with Journal(file).alone(), pytest.raises(Conflict) as caught:
        carry_out(workspace, nightly())
    assert caught.value.what == "the sweep 'nightly' is running already"
    assert "nightly.lock" in caught.value.why
    assert "is not done again" in caught.value.fix


@SOAK
def test_two_sweeps_at_once_over_the_same_adapters_leave_one_of_each(workspace, nightly, tmp_path):
    first = nightly()
    second = tmp_path / "other.yaml"
    second.write_text(
        first.read_text().replace("name: nightly", "name: other").replace("models/", "more/")
    )
    home = workspace.home.path
    workspace.close()

    def sweep(path):
        with Workspace.open(home, notify=lambda _: None) as ws:
            return statuses(ws.sweep(path))

    for done in at_once([partial(sweep, first), partial(sweep, second)]):
        assert isinstance(done, list), done
    assert sorted(version.ref for version in workspace.list(every=True)) == [
        "bridge@1",
        "medic-skill@1",
        "naval-skill@1",
    ]
    assert workspace.fsck().sound
    assert {status for _, _, status in statuses(carry_out(workspace, first))} == {"done"}


def test_a_line_that_was_cut_short_is_left_out_and_the_next_is_whole(tmp_path):
    file = tmp_path / "nightly.jsonl"
    journal = Journal(file)
    with journal.alone():
        journal.note("k1", "naval@1", "one", "2026")
        journal.note("k2", "naval@2", "two", "2026")
    os.truncate(file, file.stat().st_size - 5)
    cut = Journal(file)
    assert (cut.result("k1"), cut.result("k2")) == ("one", None)
    with cut.alone():
        cut.note("k3", "naval@3", "three", "2026")
    read_again = Journal(file)
    assert [read_again.result(key) for key in ("k1", "k2", "k3")] == ["one", None, "three"]


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("of: skills, name", "of: skulls, name", "no set in step 3 called 'skulls'"),
        ("  - alias: {of: bridge, to: staging}", "  - {}", "step 6 names 0 things to do"),
        (
            "suites: [speech.yaml]",
            "suits: [speech.yaml]",
            "'evaluate' in number 1 of steps has no key 'suits', nearest is 'suites'",
        ),
        ("  - gate:", "  - gaet:", "number 2 of steps has no key 'gaet', nearest is 'gate'"),
        ("base: ", "bass: ", "the file has no key 'bass', nearest is 'base'"),
        ("{of: bridge, to: team}", "{of: bridge}", "'push' in number 7 of steps has no 'to'"),
        ("name: nightly", "name: a/b", "the name 'a/b' has a '/'"),
        ("{name}-{number}", "one", "it needs {name} in it"),
        ("density: 0.5", "density: &a 0.5", "it holds an anchor"),
        (
            "strategy: ties",
            "strategy: 7",
            "'merge.strategy' in number 3 of steps is a whole number, and must be a text",
        ),
        ("name: nightly", "name: nightly\nname: daily", "the key 'name' occurs twice"),
        (
            "{of: bridge, to: team}",
            "{off: bridge, to: team}",
            "YAML takes the key 'off' for true or",
        ),
        ("{of: bridge, to: team}", "{1: bridge, to: team}", "takes the key '1' for a whole number"),
        ("name: nightly", "name: nightly\ntrue: 1", "YAML takes the key 'true' for true or"),
        ("name: nightly", "name: nightly\nnull: 1", "YAML takes the key 'null' for "),
    ],
)
def test_mistakes_in_the_file_are_named(nightly, old, new, why):
    path = nightly()
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BadSweep) as caught:
        read(path)
    lines = path.read_text().split("\n")
    line = next(number for number, one in enumerate(lines, 1) if one not in text.split("\n"))
    assert caught.value.what == f"cannot read {path}, line {line}"
    assert why in caught.value.why
    assert "docs/scale-out.md" in caught.value.fix


def test_a_suite_that_is_not_there_is_named_before_anything_is_done(workspace, nightly):
    path = nightly()
    path.write_text(path.read_text().replace("speech.yaml", "missing.yaml"))
    with pytest.raises(
        NotFound, match="check it for a typo; paths are relative to the sweep's file"
    ) as caught:
        carry_out(workspace, path)
    assert caught.value.what.startswith(f"{path}, line {_line(path, 'missing.yaml')}: no file")


def test_a_weight_of_an_adapter_that_the_set_lacks_is_refused(workspace, nightly):
    path = nightly()
    path.write_text(path.read_text().replace("naval-skill: 0.5", "navel: 0.5"))
    with pytest.raises(NotFound, match="no adapter in 'skills' called 'navel'") as caught:
        carry_out(workspace, path)
    assert caught.value.what.startswith(f"{path}, line {_line(path, 'navel')}: ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("strategy: ties", "strategy: tise", "no strategy called 'tise': known are ties"),
        ("density: 0.5", "densty: 0.5", "no parameter of 'ties' called 'densty'"),
        ("to: team", "to: taem", "no remote called 'taem'"),
        ("to: staging", "to: v3", "'v3' cannot be an alias"),
        ("name: bridge, strategy", "name: latest, strategy", "'latest' is not a name"),
        ("strategy: ties,", "strategy: ties, space: cores,", "no space called 'cores'"),
        ("strategy: ties,", "strategy: ties, rank: 0,", "--rank is 0"),
        ("strategy: ties,", "strategy: ties, dtype: int8,", "no dtype called 'int8'"),
        ('out: "models', 'dtype: int8, out: "models', "no dtype called 'int8'"),
        (
            "speech.perplexity < 1e9",
            "speech.perplexity =< 1e9",
            "'speech.perplexity =< 1e9' is not",
        ),
        ("baseline: base}", "baseline: bsae}", "no adapter called 'bsae'"),
        ("baseline: base}", "baseline: base, new: [naval]}", "no suite called 'naval'"),
        ('name: "*-skill"', "name: navel-skill", "no adapter called 'navel-skill'"),
        (
            'name: "*-skill"',
            "name: naval-skill@1",
            "'naval-skill@1' is not a name: it names a version",
        ),
    ],
)
def test_what_a_step_cannot_mean_is_named_with_its_line_before_any_work(
    workspace, nightly, old, new, message
):
    path = nightly()
    text = path.read_text()
    assert old in text
    path.write_text(
        text.replace(old, new, 1).replace(
            "name: latest, strategy: ties, params: {density: 0.5}, weights: {naval-skill: 0.5}}",
            "name: latest, strategy: ties}",
        )
    )
    if "latest" in new:
        path.write_text(path.read_text().replace("of: bridge", "of: latest"))
    before = len(workspace.events())
    for dry in (True, False):
        with pytest.raises(AdaptkitError) as caught:
            carry_out(workspace, path, dry_run=dry)
        assert str(caught.value).startswith(f"{path}, line {_line(path, new)}: {message}")
    assert len(workspace.events()) == before


def test_a_set_that_is_empty_is_said_and_what_it_was_for_is_held(workspace, nightly):
    path = nightly()
    path.write_text(path.read_text().replace("tag: approved", "tag: appproved"))
    said = []
    workspace.notify = said.append
    swept = carry_out(workspace, path)
    line = _line(path, "appproved")
    assert said == [f"{path}, line {line}: no adapter fits the query, so the set 'skills' is empty"]
    assert [task.status for task in swept.tasks] == ["held"] * 8
    assert swept.tasks[0].result == "'skills' holds no adapter"


def test_a_plan_says_of_a_misspelt_figure_that_it_is_never_measured(workspace, nightly, capfd):
    from adaptkit.cli import main

    path = nightly(limit="1e8")
    carry_out(workspace, path)
    path.write_text(path.read_text().replace("speech.perplexity < 1e8", "speech.perplexty < 1e8"))
    planned = carry_out(workspace, path, dry_run=True)
    held = [task.result for task in planned.tasks if task.status == "held"]
    why = "speech.perplexty is not measured: nearest is speech.perplexity"
    assert held == [why, *["the gate of step 5 held all of 'bridge'"] * 3]
    command = ["--home", str(workspace.home.path), "sweep", str(path), "--dry-run"]
    assert main(command) == 0
    assert "\n  bridge@1  speech.perplexity " in capfd.readouterr().err  # though a gate held it


@pytest.mark.parametrize("to", ["team:bridge", "file:///somewhere/bridge"])
def test_several_adapters_are_not_pushed_to_the_place_of_one(workspace, nightly, to):
    path = nightly()
    path.write_text(
        path.read_text().replace(
            "push: {of: bridge, to: team}", f"push: {{of: skills, to: '{to}'}}"
        )
    )
    with pytest.raises(BadReference) as caught:
        carry_out(workspace, path, dry_run=True)
    assert f"'{to}' is the place of one adapter: 'skills' holds 2: medic-skill, naval-skill" in str(
        caught.value
    )


def test_a_gate_may_hold_back_an_adapter_that_has_a_weight(workspace, nightly):
    path = nightly()
    workspace.note("medic-skill", metrics={"seen": 1})
    gate = 'require: ["seen >= 1"]'
    path.write_text(path.read_text().replace('require: ["speech.perplexity < 1e9"]', gate))
    swept = carry_out(workspace, path)
    assert ("gate", "naval-skill@1", "held") in statuses(swept)
    assert ("merge", "bridge@1", "made") in statuses(swept)
    assert [p.label for p in workspace.show("bridge").parents] == ["medic-skill@1"]


def test_a_merge_goes_on_under_its_own_name_where_another_has_the_same_bytes(workspace, nightly):
    path = nightly()
    carry_out(workspace, path)
    workspace.add(workspace.path("bridge"), "copy")
    assert {status for _, _, status in statuses(carry_out(workspace, path))} == {"done"}
    assert ("alias", "bridge@1", "done") in statuses(carry_out(workspace, path, dry_run=True))
    assert workspace.version("copy").aliases == ()


def test_an_adapter_that_was_renamed_is_found_under_its_old_name(workspace, nightly):
    path = nightly()
    text = path.read_text().replace('name: "*-skill"', "name: [naval-skill, medic-skill]")
    path.write_text(text.replace(", weights: {naval-skill: 0.5}", ""))
    workspace.rename("naval-skill", "navy")
    planned = statuses(carry_out(workspace, path, dry_run=True))
    assert ("evaluate", "navy@1", "to do") in planned


def _line(path, written):
    return path.read_text().partition(written)[0].count("\n") + 1


def test_the_command_shows_the_table_and_counts(workspace, nightly, capfd):
    from adaptkit.cli import main

    home = ["--home", str(workspace.home.path)]
    assert main([*home, "sweep", str(nightly()), "--dry-run", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert shown["name"] == "nightly"
    assert shown["tasks"][0] == {
        "step": 1,
        "kind": "evaluate",
        "what": "medic-skill@1",
        "status": "to do",
        "result": "",
    }
    assert main([*home, "sweep", str(nightly()), "--dry-run", "--exit-code"]) == 0
    seen = capfd.readouterr()
    assert "nightly: 2 to do, 8 wait\n" in seen.err
    assert "bridge@?" in seen.out


def test_a_gate_that_holds_is_an_exit_code_where_one_is_asked_for(workspace, nightly, capfd):
    from adaptkit.cli import main

    for name in ("naval", "medic"):
        workspace.note(f"{name}-skill", metrics={"speech.perplexity": 1e10})
    path = nightly()
    text = path.read_text()
    path.write_text(
        text.replace("  - evaluate: {of: skills, suites: [speech.yaml], baseline: base}\n", "")
    )
    command = ["--home", str(workspace.home.path), "sweep", str(path), "--dry-run"]
    assert main(command) == 0
    assert main([*command, "--exit-code"]) == 1
    assert (
        "gate\tmedic-skill@1\theld\tspeech.perplexity is 1e+10, not < 1e+09"
        in capfd.readouterr().out
    )


def png_size(file):
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])


def drawn(figure):
    """The texts of the cells by line and column, as the picture has them."""
    (axes,) = figure.axes
    adapters = [label.get_text() for label in axes.get_yticklabels()]
    columns = [label.get_text() for label in axes.get_xticklabels()]
    cells = {}
    for text in axes.texts:
        x, y = text.get_position()
        cells[adapters[y], columns[x]] = text.get_text()
    return cells


def test_the_picture_of_a_sweep_shows_its_figures_and_gates(workspace, nightly, tmp_path):
    swept = carry_out(workspace, nightly(limit="0.5"), png=tmp_path / "nightly.png")
    # three columns (a suite, two gates) and three adapters, 120 dots an inch
    assert png_size(tmp_path / "nightly.png") == (900, 378)
    names = ("medic-skill", "naval-skill", "bridge")
    metrics = {f"{name}@1": workspace.version(name).metrics for name in names}
    expected = {}
    for ref, row in metrics.items():
        expected[ref, "speech\nperplexity"] = f"{row['speech.perplexity']:.3g}"
        first, second = ("", "held") if ref == "bridge@1" else ("passed", "")
        expected[ref, "gate, step 2\nspeech.perplexity < 1e9"] = first
        expected[ref, "gate, step 5\nspeech.perplexity < 0.5"] = second
    assert drawn(picture(swept.board, swept.name)) == expected
    assert swept.to_json()["figures"] == {
        ref: {"speech.perplexity": row["speech.perplexity"]} for ref, row in metrics.items()
    }


def test_a_better_figure_is_greener_whichever_way_a_score_goes():
    board = Board(
        {"a@1": {"s.exact": 0.9, "t.perplexity": 4.0}, "b@1": {"t.perplexity": 2.0}},
        {"s.exact": True, "t.perplexity": False},
    )
    assert board.goodness("a@1", "s.exact") == 0.9
    assert board.goodness("b@1", "s.exact") is None
    assert (board.goodness("a@1", "t.perplexity"), board.goodness("b@1", "t.perplexity")) == (
        0.5,
        1,
    )
    (axes,) = picture(board, "two").axes
    pixels = axes.get_images()[0].get_array()
    assert pixels[1, 1, 1] > pixels[1, 1, 0]  # green
    assert tuple(pixels[1, 0]) == (0.93, 0.93, 0.93)  # not measured


def test_a_picture_that_cannot_be_drawn_is_refused_before_the_work(workspace, nightly, tmp_path):
    path = nightly()
    with pytest.raises(NotFound, match="no folder called '.*missing'"):
        carry_out(workspace, path, png=tmp_path / "missing" / "nightly.png")
    text = "name: none\nsets:\n  skills: {{}}\nsteps:\n  - push: {{of: skills, to: team}}\n"
    with pytest.raises(BadSweep) as caught:
        carry_out(workspace, nightly(text=text), png=tmp_path / "nightly.png")
    assert caught.value.what == "the sweep none has nothing to draw"
    assert "neither an evaluate nor a gate step" in caught.value.why
    assert "leave out --png" in caught.value.fix
    assert not (workspace.home.path / "sweeps").exists()


def test_workspaces_open_elsewhere_see_what_a_sweep_made(workspace, nightly):
    carry_out(workspace, nightly())
    with Workspace.open(workspace.home.path, notify=lambda _: None) as other:
        assert other.version("bridge@staging").number == 1


# ---------------------------------------------------------------- parents that have moved on


@pytest.fixture
def bridged(workspace, made, speaker, tmp_path):
    import tiny

    for name in ("naval", "medic"):
        workspace.add(made / name, name, base=str(speaker))
    workspace.alias("naval", "prod", 1)
    workspace.merge({"naval@prod": 0.5, "medic": 1.0}, name="bridge", strategy="ties", density=0.5)

    def newer(name, seed):
        tiny.save_adapter(speaker, tmp_path / str(seed), seed=seed, r=4, target_modules=["q_proj"])
        return workspace.add(tmp_path / str(seed), name, base=str(speaker)).version

    return newer


def test_a_newer_parent_makes_a_version_outdated_and_its_line_refreshes_it(
    workspace, bridged, speaker, tmp_path
):
    assert workspace.moved_parents() == ()
    newer = bridged("medic", 11)
    (moved,) = workspace.moved_parents()
    assert moved.version.ref == "bridge@1"
    assert [(p.used, p.now.ref) for p in moved.parents] == [("medic", newer.ref)]
    assert moved.step == (
        "- merge: {of: bridge-parents, name: bridge, strategy: ties, "
        'params: {"density":0.5,"elect":"total"}, weights: {"naval":0.5}}'
    )
    assert moved.set == "bridge-parents: {name: [medic, naval]}"
    file = tmp_path / "refresh.yaml"
    file.write_text(f"name: refresh\nsets:\n  {moved.set}\nsteps:\n  {moved.step}\n")
    swept = carry_out(workspace, file)
    assert statuses(swept) == [("merge", "bridge@2", "made")]
    assert workspace.moved_parents() == ()


def test_a_parent_used_by_its_alias_moves_on_with_the_alias(workspace, bridged):
    bridged("naval", 12)
    assert workspace.moved_parents() == ()  # prod is still naval@1
    workspace.alias("naval", "prod", 2)
    (moved,) = workspace.moved_parents()
    assert [(p.used, p.now.ref) for p in moved.parents] == [("naval@prod", "naval@2")]


def test_outdated_lineage_prints_the_line(workspace, bridged, capfd):
    from adaptkit.cli import main

    bridged("medic", 13)
    home = ["--home", str(workspace.home.path)]
    assert main([*home, "outdated", "--lineage", "--exit-code", "--json"]) == 1
    (row,) = json.loads(capfd.readouterr().out)
    assert row["version"] == "bridge@1"
    assert row["parents"] == [{"used": "medic", "now": "medic@2"}]
    assert row["step"].startswith("- merge: {of: bridge-parents, name: bridge")
