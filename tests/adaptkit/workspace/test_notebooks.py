"""Objects in a notebook: a short line, and a table; looking makes nothing."""

from __future__ import annotations

import re

import pytest

from adaptkit import Workspace
from adaptkit.errors import AdaptkitError


@pytest.fixture
def filled(workspace, lora_pair):
    workspace.add(lora_pair[0], "naval", alias="prod", message="<b>terse</b>")
    workspace.add(lora_pair[1], "medic")
    return workspace


def test_every_object_has_a_line_that_fits(filled, tiny_llama, tmp_path):
    merged = filled.merge(["naval", "medic"], name="bridge")
    objects = {
        "Workspace": filled,
        "Version": filled.version("naval"),
        "Merged": merged,
        "Comparison": filled.diff(["naval", "medic"]),
        "Lineage": filled.lineage("bridge"),
        "Shown": filled.show("naval"),
        "Logged": filled.log("naval"),
        "Added": filled.add(filled.path("naval"), "copy"),
        "Pushed": filled.push("naval", (tmp_path / "team").as_uri()),
        "Preflight": filled.preflight("naval", "vllm"),
        "Base": filled.base(str(tiny_llama)),
        "Baked": filled.bake("naval", str(tiny_llama), tmp_path / "full", force=True),
    }
    for name, value in objects.items():
        assert re.match(rf"<{name} .*>$", repr(value)), repr(value)
        assert len(repr(value)) < 200
    assert repr(merged) == "<Merged bridge@1 by linear, rank 12, loss 3e-08>" or re.match(
        r"<Merged bridge@1 by linear, rank 12, loss \S+>", repr(merged)
    )
    assert repr(objects["Lineage"]) == "<Lineage of bridge@1: 2 ancestors>"


def test_tables_show_what_there_is_and_escape_it(filled):
    page = filled._repr_html_()
    assert "<td>naval@1</td>" in page
    assert "&lt;b&gt;terse" in page
    assert "<b>" not in filled.version("naval")._repr_html_()
    merged = filled.merge(["naval", "medic"], name="bridge")
    assert "<td>linear</td>" in merged._repr_html_()
    lineage = filled.lineage("bridge")._repr_html_()
    assert lineage.count("<li>") == 3
    assert "1 × medic@1" in lineage


def test_a_comparison_has_its_picture(filled):
    pytest.importorskip("matplotlib", reason="pip install 'adaptkit-peft[plot]'")
    assert '<img src="data:image/png;base64,' in filled.diff(["naval", "medic"])._repr_html_()


def test_showing_an_empty_home_makes_nothing(tmp_path):
    with Workspace.open(tmp_path / "home") as ws:
        assert "0 adapters in" in ws._repr_html_()
        assert ws.status().exists is False
    assert not (tmp_path / "home").exists()


def test_the_bar_of_a_merge_counts_its_modules(filled, tmp_path):
    from contextlib import nullcontext

    seen = {}

    def watch(what, total, unit=""):
        seen[what] = [total, unit, 0]

        def step(count):
            seen[what][2] += count

        return nullcontext(step)

    filled.watch = watch
    made = filled.merge(["naval", "medic"], out=tmp_path / "out")
    modules = len({key.partition("#")[0] for key in made.report.ranks})
    assert seen["merging"] == [modules, "modules", modules]
    filled.diff(["naval", "medic"])
    total, unit, done = seen["comparing"]
    assert (unit, done) == ("modules", total)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--rank 8, or --energy 0.95", "rank=8, or energy=0.95"),
        ("--strategy svd --rank 8", "strategy='svd' rank=8"),
        ("drop --rank to keep it whole", "drop rank to keep it whole"),
        ("--base DIR", "base=DIR"),
        (
            "give the base it was trained on, or --force",
            "give the base it was trained on, or force=True",
        ),
        ("adaptkit base verify naval --base DIR", "!adaptkit base verify naval --base DIR"),
        ("--dtype float32, or smaller weights", "dtype='float32', or smaller weights"),
    ],
)
def test_an_error_speaks_python_in_a_notebook(text, shown):
    error = AdaptkitError("it failed", why="so it was", fix=text)
    assert error._render_traceback_() == ["AdaptkitError: it failed: so it was", f"  {shown}"]


def test_signatures_are_explicit():
    """Only what is handed on to a strategy or to PEFT is open-ended."""
    import inspect

    open_ended = {
        name
        for name, value in inspect.getmembers(Workspace, callable)
        if not name.startswith("_")
        for parameter in inspect.signature(value).parameters.values()
        if parameter.kind is inspect.Parameter.VAR_KEYWORD
    }
    assert open_ended == {"load", "merge", "merge_into_model"}
    assert "strategy: 'str' = 'linear'" in str(inspect.signature(Workspace.merge))
    assert "rank: 'int' = 8" in str(inspect.signature(Workspace.train))


def test_an_operation_of_the_class_says_that_a_workspace_is_opened_first():
    with pytest.raises(TypeError) as caught:
        Workspace.merge(["naval"], name="bridge")
    assert (
        str(caught.value)
        == "merge() is an operation of a workspace that is open: Workspace.open().merge(…)"
    )


def test_a_home_that_is_none_is_answered_in_python(tmp_path):
    with Workspace.open(tmp_path / "home") as ws, pytest.raises(AdaptkitError) as caught:
        ws.list()
    shown = caught.value._render_traceback_()[1]
    assert shown == f"  check it for a typo; Workspace.open('{tmp_path}/home').create() makes one"
    Workspace.init(tmp_path / "project").close()
    with Workspace.open(tmp_path / "project") as ws, pytest.raises(AdaptkitError) as caught:
        ws.list()
    assert (
        caught.value._render_traceback_()[1] == f"  Workspace.open('{tmp_path}/project/.adaptkit')"
    )
