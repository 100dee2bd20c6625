"""adaptkit.workspace.operation: an operation is imported when it is looked up, and is then the function itself."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import adaptkit.workspace
from adaptkit.workspace import Workspace
from adaptkit.workspace.arguments import checking
from adaptkit.workspace.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_every_operation_that_is_named_exists():
    for name in dir(Workspace):
        found = getattr(Workspace, name)
        assert not isinstance(found, Operation), name
    assert next(iter(inspect.signature(Workspace.merge).parameters)) == "context"
    assert Workspace.merge.__module__ == "adaptkit.workspace.merge.merge"


def test_what_is_imported_for_types_is_what_is_looked_up():
    tree = ast.parse(inspect.getsource(adaptkit.workspace))
    (chosen,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        one.asname or one.name: (node.module, one.name)
        for node in chosen.body
        for one in node.names
    }
    for node in chosen.orelse:
        name, made = node.targets[0].id, node.value
        if isinstance(made, ast.Attribute):
            module, function = made.value.args[0].value, made.attr
        else:
            module, _, function = made.args[0].value.rpartition(".")
        assert typed.pop(name) == (module, function)
    assert typed == {}


def test_list_and_show_load_neither_numpy_nor_plugins_nor_what_merges(tmp_path):
    code = (
        "import sys; from pathlib import Path; from adaptkit import Workspace\n"
        "from adaptkit.errors import NotFound\n"
        "with Workspace.open(Path(sys.argv[1])) as workspace:\n"
        "    assert workspace.list() == ()\n"
        "    try: workspace.show('naval')\n"
        "    except NotFound: pass\n"
        "heavy = {'numpy', 'sqlalchemy.orm', 'adaptkit.merge', 'alembic', 'pluggy', 'msgspec'}\n"
        "loaded = heavy & set(sys.modules)\n"
        "print(sorted(loaded))"
    )
    home = str(tmp_path)
    subprocess.run(
        [sys.executable, "-m", "adaptkit", "--home", home, "init"], check=True, timeout=60
    )
    done = subprocess.run(
        [sys.executable, "-c", code, home], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_one_is_taken_where_several_are_and_everything_else_is_left_alone():
    def tagged(context, ref: str, tags: Sequence[str] = (), *, ranks: Sequence[int] = (), **rest):
        """A docstring."""
        return context, ref, tags, ranks, rest

    taken = checking(tagged, "note")
    assert taken(1, "naval", "best") == (1, "naval", ("best",), (), {})
    assert taken(1, "naval", tags=Path("a"), ranks=8, other="x") == (
        1,
        "naval",
        ("./a",),
        (8,),
        {"other": "x"},
    )
    assert taken(1, "naval", ["a", "b"], ranks=(4, 8))[2:4] == (("a", "b"), (4, 8))
    assert taken(1, "naval", ranks=np.array([4, 8]))[3] == (4, 8)
    assert inspect.signature(taken) == inspect.signature(tagged)
    with pytest.raises(TypeError, match=r"note\(\) takes ref, tags by place"):
        taken(1, "naval", (), 5)


def test_one_tag_one_word_and_one_adapter_may_be_given_as_strings(workspace, lora_pair):
    workspace.add(lora_pair[0], "naval")
    assert workspace.note("naval", tags="best").tags == ("best",)
    assert [version.name for version in workspace.list(words="nav")] == ["naval"]
    assert [version.name for version in workspace.to_remove("naval")] == ["naval"]


def test_an_argument_of_another_kind_is_named_with_what_is_taken(workspace, lora_pair):
    workspace.add(lora_pair[0], "naval")
    for wrong, message in (
        (
            lambda: workspace.alias("naval", "prod", "1"),
            r"alias\(\) takes int \| None as number, not '1'",
        ),
        (
            lambda: workspace.alias("naval", 3, 1),
            r"alias\(\) takes str as alias, not 3, which is of the type int",
        ),
        (lambda: workspace.alias("naval", "prod", True), "as number, not True"),
        (
            lambda: workspace.show(None),
            r"show\(\) takes str as ref, not None, which is of the type NoneType",
        ),
        (lambda: workspace.merge("naval", "medic", name="x"), r"merge\(\) takes sources by place"),
    ):
        with pytest.raises(TypeError, match=message):
            wrong()
    assert workspace.alias("naval", "prod", np.int64(1)).new == 1


def test_an_operation_that_there_is_not_is_answered_with_the_nearest(workspace):
    with pytest.raises(AttributeError, match="a workspace has no 'evalute': nearest are evaluate"):
        workspace.evalute  # noqa: B018
    assert not hasattr(workspace, "_ipython_canary_method_should_not_exist_")


def test_an_error_within_a_property_is_not_taken_for_a_missing_operation(workspace, monkeypatch):
    def broken(_):
        raise AttributeError("inside")

    monkeypatch.setattr(type(workspace), "registry", property(broken))
    with pytest.raises(AttributeError, match="inside"):
        workspace.registry  # noqa: B018


def test_libraries_say_nothing_of_themselves_while_an_operation_runs(caplog):
    import logging

    from adaptkit.io.machine.libraries import QUIET

    name = next(iter(QUIET))

    def look(text: str) -> None:
        logging.getLogger(name).warning("an optional kernel was not downloaded: %s", text)
        logging.getLogger(name).error("broken")

    checking(look, "look")("x")
    assert [record.message for record in caplog.records] == ["broken"]
    logging.getLogger(name).warning("outside")
    assert caplog.records[-1].message == "outside"
