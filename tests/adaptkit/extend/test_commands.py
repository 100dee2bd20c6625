"""adaptkit.extend.commands: commands of plugins work in the workspace in force."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from command_line import run_process

from adaptkit import Workspace
from adaptkit.errors import PluginError
from adaptkit.extend import pass_workspace
from adaptkit.testing import run_command

PAGE = Path(__file__).parents[3] / "docs" / "plugins.md"


def roster():
    """The plugin of the page, word for word."""
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if "def roster" in block
    ]
    names: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return SimpleNamespace(**names), code


@pytest.fixture
def two_homes(tmp_path, lora_pair):
    with Workspace.open(tmp_path / "one") as ws:
        ws.add(lora_pair[0], "naval")
    with Workspace.open(tmp_path / "two") as ws:
        ws.add(lora_pair[1], "medic")
    return tmp_path


def test_the_kit_runs_the_command_of_the_page_in_the_home_that_it_is_given(two_homes):
    plugin, _ = roster()
    assert run_command(plugin, ["roster"], two_homes / "one").output == "naval\n"
    assert run_command(plugin, ["roster"], two_homes / "two").output == "medic\n"


def test_commands_of_an_installed_plugin_see_the_home_that_was_chosen(two_homes):
    site = two_homes / "site"
    (site / "roster-1.dist-info").mkdir(parents=True)
    (site / "roster-1.dist-info" / "METADATA").write_text("Name: roster\nVersion: 1\n")
    (site / "roster-1.dist-info" / "entry_points.txt").write_text("[adaptkit]\nroster = roster\n")
    own = """
    @cli.command()
    def own():
        from adaptkit import Workspace
        with Workspace.open() as workspace:
            print(workspace.home.path.name)
"""
    (site / "roster.py").write_text(roster()[1] + own)
    environment = {"PYTHONPATH": str(site), "ADAPTKIT_HOME": str(two_homes / "two")}
    for chosen, name, home in (
        (["--home", two_homes / "one"], "naval", "one"),
        ([], "medic", "two"),
    ):
        assert run_process([*chosen, "roster"], two_homes, **environment).stdout == f"{name}\n"
        assert run_process([*chosen, "own"], two_homes, **environment).stdout == f"{home}\n"


def test_a_command_outside_adaptkit_says_that_there_is_no_workspace():
    command = click.command("roster")(pass_workspace(print))
    with pytest.raises(PluginError, match="the command 'print' has no workspace") as caught:
        CliRunner().invoke(command, [], catch_exceptions=False)
    assert "run_command(plugin, arguments, home)" in caught.value.fix
