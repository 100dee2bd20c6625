"""What messages tell people to type exists: each option on the command line, and each keyword in Python."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from functools import cache
from pathlib import Path

import click
import pytest

from adaptkit import Workspace
from adaptkit.errors import FLAGS, in_python

ROOT = Path(__file__).parents[1]
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)")
OF_OTHERS = re.compile(
    r"\b(?:accelerate|conda|git|hf|llama-server|lm-eval|pip|python|ray|torchrun|vllm|wsl) [^,;]*"
)
"""Lines of other programs."""
ENGINES = {"plugins/adaptkit_plugins/engines/vllm.py", "adaptkit/serving/engines/rules.py"}
"""Where options of another engine are named by themselves."""
EVERYWHERE = {"help", "get", "upgrade"}
"""What every command has, and what git and pip are given."""
ONLY_COMMANDS = {"compare", "port"}
"""Options of `generate` and `serve` that no operation has."""


@cache
def messages():
    """Every text outside the command line's own modules, and outside docstrings, with the file it is in."""
    found: list[tuple[str, str]] = []
    for root in ("adaptkit", "plugins", "registry_db"):
        for path in sorted((ROOT / root).rglob("*.py")):
            if {"cli", "testing"} & set(path.parts):
                continue
            name, tree = path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())
            documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
            docs = {
                id(node.value)
                for parent in ast.walk(tree)
                if isinstance(parent, documented)
                for node in parent.body
                if isinstance(node, ast.Expr)
            }
            inner = {
                id(one)
                for node in ast.walk(tree)
                if isinstance(node, ast.JoinedStr)
                for one in node.values
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    parts = [
                        one.value if isinstance(one, ast.Constant) else "X" for one in node.values
                    ]
                    found.append((name, "".join(parts)))
                elif isinstance(node, ast.Constant) and id(node) not in docs | inner:
                    found.append((name, str(node.value)))
    return found


@pytest.fixture(scope="module")
def options():
    """The options of all commands, and whether each is a flag."""
    from adaptkit.cli.app import app

    found: dict[str, bool] = {}

    def look(context: click.Context, command: click.Command) -> None:
        for one in command.params:
            if isinstance(one, click.Option):
                for name in (*one.opts, *one.secondary_opts):
                    found[name.removeprefix("--")] = one.is_flag
        for name in command.list_commands(context) if isinstance(command, click.Group) else ():
            look(context, command.get_command(context, name))

    look(app.make_context("adaptkit", ["plugins"]), app)
    return found


@pytest.fixture(scope="module")
def keywords():
    """What Python takes by name: parameters of operations, and the fields of the options that they take."""
    from adaptkit.extend import PushOptions
    from adaptkit.workspace.serving.serve import ServeOptions

    found = {
        name
        for called, operation in inspect.getmembers(Workspace, inspect.isfunction)
        if not called.startswith("_")
        for name in inspect.signature(operation).parameters
    }
    return found | {
        field.name for kind in (PushOptions, ServeOptions) for field in dataclasses.fields(kind)
    }


def test_every_option_of_a_message_is_one_of_a_command(options):
    wrong, seen = [], 0
    for path, text in messages():
        if path not in ENGINES:
            for name in OPTION.findall(OF_OTHERS.sub("", text)):
                seen += 1
                if name not in options.keys() | EVERYWHERE:
                    wrong.append(f"{path}: --{name} in {text!r}")
    assert wrong == []
    assert seen > 200


def test_flags_that_messages_name_are_flags_and_all_others_take_a_value(options):
    named = {name for path, text in messages() for name in OPTION.findall(OF_OTHERS.sub("", text))}
    flags = {
        name for name in named & options.keys() if options[name] and not name.startswith("no-")
    }
    for name in FLAGS:
        assert options[name], name
    # those that only commands have are within lines of commands, which stay as they are
    inside = {
        "all",
        "as-latest",
        "claim",
        "disjoint",
        "dry-run",
        "json",
        "live",
        "drop",
        "offline",
        "recursive",
        "bf16",
    }
    assert flags - inside <= FLAGS


def test_what_a_message_says_in_python_is_a_keyword_there(keywords):
    wrong, seen = [], 0
    for path, text in messages():
        if path in ENGINES or "--" not in text:
            continue
        for name in re.findall(r"(?<![\w.'\[{(-])([a-z_]+)=(?=[\w'\"{])", in_python(text)):
            if f"{name}=" not in text:
                seen += 1
                if name not in keywords | ONLY_COMMANDS:
                    wrong.append(f"{path}: {name} in {in_python(text)!r}")
    assert wrong == []
    assert seen > 60


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("for example --metric acc=0.93", "for example metrics={'acc': 0.93}"),
        (
            "give that, or all of them: adaptkit add runs --recursive --name-from '{dir}'",
            "give that, or all of them: !adaptkit add runs --recursive --name-from '{dir}'",
        ),
        ("--rank is 0: a rank is at least 1", "rank is 0: a rank is at least 1"),
        ("--heads, --embeddings or --modules GLOB", "heads=True, embeddings=True or modules=GLOB"),
        (
            "add or pull it first: adaptkit add x --name NAME",
            "add or pull it first: !adaptkit add x --name NAME",
        ),
        ("leave out --keep-full, or share it", "leave out keep_full, or share it"),
        ("a longer --length, or --no-completion-only", "a longer length, or completion_only=False"),
        (
            "merge it with one, such as --strategy linear",
            "merge it with one, such as strategy='linear'",
        ),
        (
            "--rank 64, or write full weights: --into bake DIR",
            "rank=64, or write full weights: merge_into_model(…, out=DIR)",
        ),
        (
            "--yes pushes it; --as-latest makes it the latest",
            "older='keep-latest' pushes it; older='as-latest' makes it the latest",
        ),
        ("ray start --head", "ray start --head"),
        (
            "fetch them (hf download X --revision y) and give the folder: --base DIR",
            "fetch them (hf download X --revision y) and give the folder: base=DIR",
        ),
        ("--data naval=naval.jsonl", "data={'naval': 'naval.jsonl'}"),
        ("--target-modules q_proj,v_proj", "target_modules='q_proj,v_proj'"),
    ],
)
def test_options_become_keywords(text, shown):
    assert in_python(text) == shown
