"""adaptkit.workspace.arguments: what an operation cannot take is named before it begins."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from adaptkit import Workspace
from adaptkit.errors import BadData, BadRecipe, NotFound
from adaptkit.workspace import COMMANDS
from adaptkit.workspace.arguments import LEAST, is_known

OPEN = {
    "Any",
    "Callable[[TrainStep], None]",
    "Callable[[Version, Mapping[str, float]], None]",
    "Callable[[], datetime]",
    "Callable[[str], None]",
    "Context",
    "Facts | None",
    "Older",  # push itself lists the choices
    "Sources",  # adaptkit.refs.weighted shows the forms
    "TextIO | None",
    "Watch | None",
    "Workspace",
    "str | refs.Ref",
}
"""Annotations of which every value is taken."""


def operations():
    for name, value in inspect.getmembers(Workspace, callable):
        if not name.startswith("_"):
            yield name, inspect.signature(value).parameters


@pytest.fixture
def filled(workspace, lora_pair):
    workspace.add(lora_pair[0], "naval")
    workspace.add(lora_pair[1], "medic")
    return workspace


def test_every_annotation_of_an_operation_is_compared_with_what_is_given():
    annotations = {
        str(one.annotation)
        for _, parameters in operations()
        for one in parameters.values()
        if one.annotation is not inspect.Parameter.empty
    }
    assert {one for one in annotations if not is_known(one)} == OPEN


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda ws: ws.alias("naval", "prod", 1, exepct=2),
            r"alias\(\) takes no 'exepct': nearest are expect",
        ),
        (lambda ws: ws.list(metric="a>1"), r"list\(\) takes no 'metric': nearest are metrics"),
        (lambda ws: ws.note("naval", tag="x"), r"note\(\) takes no 'tag': nearest are tags"),
        (lambda ws: ws.doctor(deep=True), r"doctor\(\) takes no 'deep', nor any other argument"),
        (lambda ws: ws.show(), r"show\(\) is not given ref: show\(ref, …\)"),
        (lambda ws: ws.push("naval"), r"push\(\) is not given to: push\(ref, to, …\)"),
        (lambda ws: ws.bake("naval", "ship"), r"bake\(\) is not given out"),
        (
            lambda ws: ws.note("naval", tags=[1]),
            r"note\(\) takes Sequence\[str\] as tags, not \[1\]",
        ),
        (
            lambda ws: ws.note("naval", metrics=[("a", 1)]),
            r"takes Mapping\[str, float\] \| None as metrics",
        ),
        (lambda ws: ws.distil("naval", "ship", "rows.jsonl"), r"as data, not 'rows.jsonl'"),
        (lambda ws: ws.list(every="yes"), r"list\(\) takes bool as every, not 'yes'"),
        (
            lambda ws: ws.merge(["naval"], name="x", force="no"),
            r"merge\(\) takes bool as force, not 'no'",
        ),
        (
            lambda ws: ws.push("naval", "team", options={"create": True}),
            r"takes PushOptions \| None as options, not \{'create': True\}, which is of the type dict",
        ),
        (
            lambda ws: ws.add("x", "naval", quantised="bitsandbytes:4"),
            r"takes Quantisation \| None as quantised",
        ),
        (
            lambda ws: ws.search("naval", "s", base="b", name="x", weights=(1,)),
            r"takes tuple\[float, float\] as weights",
        ),
        (lambda ws: ws.train("x", rank="8"), r"train\(\) takes int as rank, not '8'"),
    ],
)
def test_what_cannot_be_taken_is_a_type_error_that_names_it(filled, call, message):
    with pytest.raises(TypeError, match=message):
        call(filled)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ws: ws.events(limit=-1), r"events\(\) takes limit from 1 on, not -1"),
        (lambda ws: ws.gc(grace=-1), r"gc\(\) takes grace from 0 on, not -1"),
        (lambda ws: ws.merge(["naval"], name="x", workers=0), r"merge\(\) takes workers from 1 on"),
        (lambda ws: ws.add_all("runs", jobs=0), r"add_all\(\) takes jobs from 1 on, not 0"),
        (lambda ws: ws.parameters(size=0), r"parameters\(\) takes size from 1 on"),
        (
            lambda ws: ws.generate("naval", "hi", base="b", temperature=-1),
            r"takes temperature from 0 on",
        ),
    ],
)
def test_a_number_that_is_too_small_is_a_value_error_that_names_the_least(filled, call, message):
    with pytest.raises(ValueError, match=message):
        call(filled)


def test_the_least_of_a_number_is_that_of_the_command_line():
    import click

    from adaptkit.cli.app import app

    context = app.make_context("adaptkit", ["plugins"])
    seen = set()
    for name in app.list_commands(context):
        for parameter in app.get_command(context, name).params:
            least = getattr(parameter.type, "min", None)
            if isinstance(parameter, click.Option) and least is not None:
                seen.add(parameter.name)
                assert LEAST.get(parameter.name, least) == least, (name, parameter.name)
    assert seen >= {"limit", "jobs", "batch", "trials", "new_tokens", "temperature", "size"}


def test_versions_and_results_stand_for_their_references(filled, tmp_path):
    naval, medic = filled.version("naval"), filled.version("medic")
    made = filled.merge([naval, medic], name="bridge")
    weights = {
        p.label: p.weight
        for p in filled.show(filled.merge({naval: 0.5, medic: 1}, name="b")).parents
    }
    assert weights == {"naval@1": 0.5, "medic@1": 1.0}
    assert filled.show(made).version.ref == "bridge@1"
    assert filled.push(made, (tmp_path / "team").as_uri()).receipt.number == 1
    assert filled.note(naval, tags={"best"}).tags == ("best",)
    assert [v.ref for v in filled.to_remove(filled.list(words="med"))] == ["medic@1"]
    assert {naval, filled.version(naval)} == {filled.version("naval@1")} | {naval}
    with pytest.raises(BadRecipe, match=r"a list of references or versions"):
        filled.merge([3], name="x")


def test_a_rank_to_list_by_may_be_a_number(filled):
    rank = filled.version("naval").rank
    assert "naval" in {version.name for version in filled.list(rank=rank)}
    assert filled.list(rank=np.int64(999)) == ()


def test_nothing_to_evaluate_and_an_unknown_choice_are_errors(filled, tmp_path):
    (tmp_path / "s.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(BadData, match="nothing to evaluate: no adapter is named"):
        filled.evaluate([], tmp_path / "s.jsonl", base="ship")
    with pytest.raises(BadData, match="nothing to evaluate: no suite is named"):
        filled.evaluate("naval", [], base="ship")
    with pytest.raises(NotFound, match="no way to push an older version called 'never': known are"):
        filled.push("naval", "team", older="never")
    with pytest.raises(BadRecipe, match="takes at least 1 adapter: 0 given"):
        filled.merge([], name="x")


def test_a_workspace_is_opened_or_made_and_its_class_says_so():
    for wrong in (Workspace, lambda: Workspace("home"), lambda: Workspace(Path("home"))):
        with pytest.raises(TypeError, match=r"Workspace.open\(home\) opens a workspace"):
            wrong()


def test_every_command_is_an_operation_or_names_the_one_it_is_called(workspace):
    from adaptkit.cli.app import COMMANDS as ALL

    for command in ALL:
        if command in COMMANDS:
            with pytest.raises(
                AttributeError, match=f"a workspace has no '{command}': it is called"
            ):
                getattr(workspace, command)
            called = COMMANDS[command].partition("(")[0]
            if " " not in called and "." not in called:
                assert hasattr(Workspace, called), called
        else:
            assert hasattr(workspace, command), command
