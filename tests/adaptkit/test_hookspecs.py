"""adaptkit.hookspecs: nine hooks, each documented, each tried by a plugin of its own; the page's example runs."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import click
import numpy as np
import pytest
from click.testing import CliRunner

from adaptkit import hookimpl, hookspecs
from adaptkit.extend import Engine, Trainer
from adaptkit.extend.review import Delete, Objection, Severity
from adaptkit.plugin.entry_points import EntryPoint
from adaptkit.plugin.manager import Plugins
from adaptkit.types import Event
from adaptkit_plugins.executors.local import Local
from adaptkit_plugins.methods.lora import Lora
from adaptkit_plugins.storage.file import FileBackend
from adaptkit_plugins.strategies.linear import Cat, Linear

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "plugins.md").read_text("utf-8")
HOOKS = {
    node.name: f"def {node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}"
    for node in ast.parse(inspect.getsource(hookspecs)).body
    if isinstance(node, ast.FunctionDef)
}


def test_there_are_nine_hooks():
    assert len(HOOKS) == 9
    assert {
        name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "adaptkit_spec")
    } == set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_no_hook_stops_at_the_first_result(hook):
    options = getattr(hookspecs, hook).adaptkit_spec
    assert options["firstresult"] is False
    assert options["historic"] is False


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_exact_arguments(hook):
    documented = re.search(rf"```python\n{re.escape(HOOKS[hook])}: \.\.\.\n```\n\n(.+)", PAGE)
    assert documented, f"make docs: {HOOKS[hook]} is not in docs/plugins.md"
    assert documented[1] == inspect.getdoc(getattr(hookspecs, hook)).splitlines()[0]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_test(hook):
    assert any(name.startswith(f"test_{hook}_") for name in globals())


def test_the_generated_parts_of_the_page_are_up_to_date(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    from generate_plugins import classes, hooks

    for part in (hooks(), classes()):
        assert f"]]] -->\n{part}\n<!-- [[[end]]] -->" in PAGE, "make docs"


# ---------------------------------------------------------------- each hook


@pytest.fixture
def load(monkeypatch):
    """Load one plugin that implements the given function; returns the catalogue."""

    def one(function, name="mine"):
        module = ModuleType(f"plugin_{name}")
        setattr(module, function.__name__, hookimpl(function))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return Plugins([EntryPoint(name, f"plugin_{name}")], strict=True)

    return one


def test_register_adapter_methods_gives_methods_by_name(load):
    method = Lora()

    def register_adapter_methods(register):
        register(method)

    plugins = load(register_adapter_methods)
    assert plugins.method("lora") is method
    assert plugins.methods() == (method,)


def test_register_storage_backends_gives_backends_by_scheme(load):
    def register_storage_backends(register):
        register(FileBackend)

    plugins = load(register_storage_backends)
    assert plugins.backend_for("file:///mnt/team/naval") is FileBackend
    assert plugins.names("backends") == ("file",)


def test_register_merge_strategies_gives_strategies_by_name(load):
    one, two = Linear(), Cat()

    def register_merge_strategies(register):
        register(one)
        register(two)

    plugins = load(register_merge_strategies)
    assert plugins.strategies() == (two, one)
    assert plugins.strategy("cat") is two


def test_register_trainers_gives_trainers_by_name(load):
    class Mine(Trainer):
        name = "mine"

        def train(self, job, report):
            raise NotImplementedError

    trainer = Mine()

    def register_trainers(register):
        register(trainer)

    assert load(register_trainers).trainer("mine") is trainer


def test_register_engines_gives_engines_by_name(load):
    class Mine(Engine):
        name = "mine"

    engine = Mine()

    def register_engines(register):
        register(engine)

    assert load(register_engines).engine("mine") is engine


def test_register_executors_gives_executors_by_scheme(load):
    def register_executors(register):
        register(Local)

    plugins = load(register_executors)
    assert plugins.executor_for("local") is Local
    assert plugins.executor_for("local://") is Local
    assert plugins.names("executors") == ("local",)


def test_register_commands_adds_a_command(load):
    def register_commands(cli):
        @cli.command()
        def greet():
            click.echo("Aye.")

    cli = click.Group()
    load(register_commands).add_commands(cli)
    assert CliRunner().invoke(cli, ["greet"]).output == "Aye.\n"


def test_review_is_shown_the_action_and_all_objections_are_kept(load):
    seen = []

    def review(action):
        seen.append(action)
        yield Objection("one")
        yield Objection("two", Severity.WARN)

    action = Delete(())
    assert load(review).review(action) == (
        ("mine", Objection("one")),
        ("mine", Objection("two", Severity.WARN)),
    )
    assert seen == [action]


def test_on_event_receives_what_happened(load):
    seen = []

    def on_event(event):
        seen.append(event)

    event = Event("merged", "bridge@1", "sha256:0")
    assert load(on_event).emit(event) == ()
    assert seen == [event]


def test_a_hook_may_leave_arguments_out(load):
    calls = []

    def on_event():
        calls.append(1)

    load(on_event).emit(Event("added", "naval@1"))
    assert calls == [1]


# ---------------------------------------------------------------- the page's example


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The page's own files, installed by pip into a folder of its own."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    files = dict(re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    assert set(files) == {"adaptkit_loudest.py", "pyproject.toml", "test_loudest.py"}
    for name, text in files.items():
        (source / name).write_text(text)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            "--disable-pip-version-check",
            "--target",
            target,
            source,
        ],
        check=True,
    )
    return SimpleNamespace(source=source, environment=os.environ | {"PYTHONPATH": str(target)})


def test_the_pages_example_is_installed_listed_and_merges(example, lora_pair, tmp_path):
    def adaptkit(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "adaptkit", *arguments, "--json"],
            env=example.environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    (record,) = [record for record in adaptkit("plugins") if record["plugin"] == "loudest"]
    assert record == {
        "plugin": "loudest",
        "distribution": "adaptkit-loudest",
        "version": "0.1.0",
        "status": "loaded",
        "registered": {"strategies": ["loudest"]},
        "reason": "",
    }
    (command,) = re.findall(r"^adaptkit merge .* --strategy loudest .*$", PAGE, re.MULTILINE)
    for name, adapter in zip(("naval", "medic"), lora_pair, strict=True):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).symlink_to(adapter)
    merged = adaptkit(*command.split()[1:])
    assert (merged["strategy"], merged["space"], merged["rank"]) == ("loudest", "dense", 8)
    assert (tmp_path / "out" / "bridge" / "adapter_model.safetensors").is_file()


def test_the_pages_example_passes_the_kit_as_the_page_says(example):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_loudest.py"],
        env=example.environment,
        cwd=example.source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^18 passed", done.stdout.splitlines()[-1])


def test_the_pages_example_keeps_what_is_largest(example, monkeypatch):
    monkeypatch.syspath_prepend(example.source)
    from adaptkit_loudest import LoudestParams

    loudest = Plugins([EntryPoint("loudest", "adaptkit_loudest")], strict=True).strategy("loudest")
    one, two = np.array([[1.0, -3.0, 0.5]]), np.array([[-2.0, 2.0, 0.1]])
    merged = loudest.merge([one, two], [1.0, 0.8], LoudestParams(), [])
    assert merged.tolist() == [[-1.6, -3.0, 0.5]]
    assert loudest.merge([one, two], [1.0, 0.8], LoudestParams(floor=0.2), []).tolist() == [
        [-1.6, -3.0, 0.0]
    ]
