"""What a person meets first: `adaptkit` alone, `--help`, examples, the demo, and the lists of what can be chosen."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields

import click
import pytest
from command_line import Shell, checked, run

from adaptkit.cli.app import COMMANDS, app
from adaptkit.cli.help.examples import EXAMPLES
from adaptkit.cli.help.tasks import MORE, TASKS
from adaptkit.plugin.manager import Plugins


def every_command(command=app, path=()):
    context = click.Context(command)
    for name in command.list_commands(context):
        if path == () and name not in COMMANDS:
            continue  # of a plugin
        found = command.get_command(context, name)
        if not found.hidden:
            yield " ".join((*path, name)), found
            if isinstance(found, click.Group):
                yield from every_command(found, (*path, name))


def test_adaptkit_alone_says_what_to_do_first_and_makes_nothing(tmp_path):
    done = checked(run([], tmp_path, ADAPTKIT_HOME=str(tmp_path / "home")))
    assert done.stdout.splitlines()[0] == (
        f"no workspace yet; this command would use {tmp_path / 'home'}"
    )
    assert "adaptkit init " in done.stdout
    assert "adaptkit demo fleet" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_is_written_registered_and_merged_by_what_it_says_to_type(tmp_path):
    shell = Shell(tmp_path)
    said = shell.run("demo", "fleet").stdout
    for line in re.findall(r"^adaptkit (.*)$", said, re.MULTILINE):
        shell.run(*shlex.split(line))
    assert [v["name"] for v in shell.json("list")] == ["bridge", "medic", "naval"]
    assert {v["base"]["status"] for v in shell.json("list")} == {"verified"}
    status = shell.json("status")
    assert (status["adapters"], status["versions"], status["unverified"]) == (3, 3, 0)
    assert "bridge@1" in shell.run().stdout
    assert "error: " in shell.refused("demo", "fleet")


def test_what_is_named_for_a_merge_can_be_merged(tmp_path):
    shell = Shell(tmp_path)
    shell.run("demo", "fleet")
    for name, folder in (("naval", "naval"), ("medic", "medic"), ("copy", "medic")):
        shell.run("add", f"fleet/{folder}", "--name", name, "--base", "fleet/ship")
    (line,) = re.findall(r"adaptkit (merge .*)  combine", shell.run().stdout)
    assert "copy medic" not in line
    shell.run(*shlex.split(line.replace("NAME", "x")))


def test_every_command_has_a_task():
    named = {name for members in TASKS.values() for name in members.split()}
    assert set(COMMANDS) <= named


def test_help_is_grouped_by_task_with_whole_sentences_at_80_columns(tmp_path):
    shown = checked(run(["--help"], tmp_path, COLUMNS="80")).stdout
    headings = re.findall(r"^(\S.*):$", shown, re.MULTILINE)
    assert [one for one in headings if one not in {"Options", MORE}] == [
        task for task, members in TASKS.items() if set(members.split()) & set(COMMANDS)
    ]
    assert max(map(len, shown.splitlines())) <= 80
    assert "..." not in shown.partition("Options:")[2]


@pytest.mark.parametrize("name", [name for name, _ in every_command()])
def test_every_example_is_shown_and_can_be_typed(name, tmp_path):
    commands = dict(every_command())
    assert name in EXAMPLES, "give it an example"
    for example in EXAMPLES[name]:
        assert example in " ".join(commands[name].epilog.split("\n  "))
        words = shlex.split(re.split(r" [>|] ", example)[0])[1:]
        command, context = app, click.Context(app, info_name="adaptkit")
        while isinstance(command, click.Group) and words:
            command = command.get_command(context, words.pop(0))
            assert command is not None, example
        if not isinstance(command, click.Group):
            command.make_context(command.name, words)


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_home_may_stand_anywhere(place, tmp_path):
    Shell(tmp_path).run("init")
    words = ["list", "--all", "--json"]
    words[place:place] = ["--home", str(tmp_path / ".adaptkit")]
    assert checked(run(words, tmp_path, ADAPTKIT_HOME="/nowhere")).stdout.strip() == "[]"


def test_a_strategy_is_explained_with_formula_paper_and_parameters(tmp_path):
    shown = checked(run(["strategies", "ties"], tmp_path)).stdout
    assert shown.startswith("ties\n  formula   D = ")
    for part in ("https://arxiv.org/abs/2306.01708", "--param density=0.5, 0 to 1", "  when "):
        assert part in shown
    error = run(["strategies", "tie"], tmp_path)
    assert error.returncode == 1
    assert "no strategy called 'tie': known are ties" in error.stderr


def test_every_strategy_says_when_to_use_it():
    found = Plugins.from_environment().strategies()
    assert [one.name for one in found if not one.when] == []
    assert all(f.metadata.get("help") for one in found for f in fields(one.params))


def test_every_method_is_listed(tmp_path):
    names = checked(run(["methods", "--columns", "method"], tmp_path)).stdout.split()
    assert "lora" in names
    assert names == sorted(names)


def test_doctor_names_what_is_wrong_and_exits_with_1(tmp_path):
    shell = Shell(tmp_path)
    shell.run("init")
    found = {check["name"]: check for check in shell.json("doctor")}
    assert found["registry"]["detail"] == "adapters: 0, remotes: 0"
    assert found["[torch]"]["state"] == "ok"
    (shell.home / "registry.db").write_bytes(b"this is no database at all, not even nearly one")
    done = shell.run("doctor", code=1)
    assert "registry\twrong\t" in done.stdout


def test_a_version_may_be_written_into_the_name(tmp_path):
    shell = Shell(tmp_path)
    shell.run("demo", "fleet")
    shell.run("init")
    for name in ("naval", "medic"):
        shell.run("add", f"fleet/{name}", "--name", "x")
    assert shell.json("alias", "x@1", "prod")["new"] == 1
    assert shell.json("alias", "x", "prod", 2)["new"] == 2
    assert shell.json("rollback", "x@prod")["new"] == 1
    assert len(shell.json("log", "x@1")["versions"]) == 2
    done = shell.run("alias", "x@1", "prod", 2, code=2)
    assert "the version is given twice: @1 and 2" in done.stderr
    assert (
        "no alias of x called 'a': known is prod"
        in shell.run("alias", "x@a", "prod", code=1).stderr
    )
    assert "give NAME ALIAS, or NAME@ALIAS" in shell.run("rollback", "x", code=2).stderr


def test_a_server_gets_the_line_that_loads_an_adapter(tmp_path):
    shell = Shell(tmp_path)
    shell.run("demo", "fleet")
    shell.run("init")
    shell.run("add", "fleet/naval", "--name", "team/naval")
    folder = shell.run("path", "team/naval").stdout.strip()
    assert shell.run("path", "team/naval", "--for", "vllm").stdout.strip() == (
        f"--enable-lora --max-lora-rank 8 --lora-modules team-naval-1={folder}"
    )
    assert f'"adapter_id": "{folder}"' in shell.run("path", "team/naval", "--for", "lorax").stdout
