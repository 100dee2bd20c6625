"""adaptkit.plugin.faults: an exception of a plugin names the plugin, wherever it came up."""

from __future__ import annotations

import sys

import pytest
from command_line import run_process

from adaptkit import Workspace
from adaptkit.plugin.faults import blamed

PLUGIN = """
import click
from adaptkit import hookimpl
from adaptkit.extend import Engine


class Run(Engine):
    name = "mine"

    def command(self, base, host, port):
        return ("serve", base)


@hookimpl
def register_engines(register):
    register(Run())


@hookimpl
def register_commands(cli):
    @cli.command()
    def broken():
        {}["no key"]
"""


@pytest.fixture
def site(tmp_path):
    """A folder with one installed distribution, whose plugin breaks in several ways."""
    info = tmp_path / "site" / "breaks-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: breaks\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[adaptkit]\nbreaks = breaks_module\n")
    (tmp_path / "site" / "breaks_module.py").write_text(PLUGIN)
    return tmp_path / "site"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["broken"], "KeyError: 'no key'"),
        (
            ["serve", "--base", "BASE", "--engine", "mine"],
            "TypeError: Run.command() got an unexpected keyword argument 'slots'",
        ),
    ],
)
def test_a_plugin_that_breaks_in_a_command_is_named(site, tmp_path, tiny_llama, command, why):
    words = [str(tiny_llama) if word == "BASE" else word for word in command]
    Workspace.init(tmp_path).close()
    done = run_process(words, tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 1
    assert f"error: the plugin 'breaks' broke: {why}\n" in done.stderr
    assert "ADAPTKIT_DISABLE_PLUGINS=breaks goes on without it" in done.stderr


def test_an_error_of_no_plugin_blames_none(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    sys.modules.pop("breaks_module", None)
    modules = {"breaks": "breaks_module"}
    assert blamed(KeyError("x"), modules) is None
    assert (
        blamed(TypeError("Nothing.here() takes 1 positional argument but 2 were given"), modules)
        is None
    )
    __import__("breaks_module")
    assert (
        blamed(TypeError("Run.command() got an unexpected keyword argument"), modules) == "breaks"
    )


def test_an_argument_that_a_hook_has_not_is_named_with_what_it_has(site, tmp_path):
    (site / "breaks_module.py").write_text(
        "from adaptkit import hookimpl\n@hookimpl\ndef register_trainers(reg): ...\n"
    )
    Workspace.init(tmp_path).close()
    done = run_process(["plugins", "doctor"], tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 1
    said = "register_trainers has no argument 'reg': it has register, which may be left out"
    assert f"warning: breaks: {said}" in done.stderr
