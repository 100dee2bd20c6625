"""`--json`: stdout is one value of the documented form, stderr is JSON lines, for every command."""

from __future__ import annotations

import json
from pathlib import Path

import click
import jsonschema
import pytest
from command_line import Shell, run

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "output.schema.json").read_text())


def check(command, value):
    part = SCHEMA["commands"][command]
    jsonschema.validate(value, part | {"$defs": SCHEMA["$defs"]})
    return value


@pytest.fixture
def shell(tmp_path):
    made = Shell(tmp_path)
    made.run("demo", "fleet")
    made.run("init")
    made.run("add", "fleet/naval", "--name", "naval", "--base", "fleet/ship", "--alias", "prod")
    made.run("add", "fleet/medic", "--name", "medic", "--base", "fleet/ship")
    return made


def test_every_result_has_its_documented_form(shell):
    mergekit = shell.folder / "merge.yml"
    mergekit.write_text(
        "merge_method: ties\nmodels: [{model: base+./fleet/naval}, {model: base+./fleet/medic}]\n"
    )
    commands = {
        "add": ("fleet/naval", "--name", "other"),
        "list": (),
        "show": ("naval",),
        "log": ("naval",),
        "lineage": ("naval",),
        "path": ("naval", "--for", "vllm"),
        "note": ("naval", "--tag", "ok", "--metric", "exact=0.5"),
        "merge": ("naval", "medic", "--name", "bridge"),
        "resize": ("naval", "--rank", 4, "--name", "small"),
        "convert": ("naval", "--out", shell.folder / "converted"),
        "diff": ("naval", "medic"),
        "alias": ("naval@1", "beta"),
        "rename": ("other", "another"),
        "remote add": ("crew", (shell.folder / "crew").as_uri()),
        "remote rename": ("crew", "team"),
        "remote set-url": ("team", (shell.folder / "team").as_uri()),
        "remote list": (),
        "push": ("naval@prod", "team"),
        "remote show": ("team",),
        "card": ("naval",),
        "pull": ("team:naval", "--name", "pulled"),
        "remote rm": ("team",),
        "rm": ("pulled", "bridge", "--yes"),
        "restore": ("pulled@1",),
        "export": ("naval", shell.folder / "copy"),
        "recipe from-mergekit": (mergekit,),
        "strategies": (),
        "methods": (),
        "base list": (),
        "base show": ("fleet/ship",),
        "base compare": ("fleet/ship", "fleet/ship"),
        "config set": ("author", "ada"),
        "config list": (),
        "verify": (),
        "fsck": (),
        "gc": ("--dry-run",),
        "info": (),
        "plugins": (),
        "plugins doctor": (),
        "doctor": (),
        "status": (),
        "completion": ("zsh",),
        "demo": ("again",),
        "init": ("elsewhere",),
    }
    for command, arguments in commands.items():
        done = shell.run(*command.split(), *arguments, "--json")
        check(command, json.loads(done.stdout))
        for line in done.stderr.splitlines():
            assert set(json.loads(line)) <= {"note", "warning"}, (command, line)
    check("log --events", shell.json("log", "--events"))
    check("add", shell.json("add", "fleet/naval", "fleet/medic", "--name-from", "run-{dir}"))
    check("log", shell.json("log", "naval"))
    check("strategies", shell.json("strategies", "ties"))


def test_every_command_takes_json():
    from adaptkit.cli.app import app

    def leaves(command, path):
        if isinstance(command, click.Group) and path != ("plugins",):
            for name in command.list_commands(click.Context(command)):
                yield from leaves(command.get_command(click.Context(command), name), (*path, name))
        else:
            yield path, command

    lacking = [
        " ".join(path)
        for path, command in leaves(app, ())
        if not command.hidden and "--json" not in {o for p in command.params for o in p.opts}
    ]
    assert lacking == []


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "what"),
    [
        (("show", "nope"), 1, "NotFound", "no adapter called 'nope'"),
        (("show", "@"), 1, "BadReference", "cannot read '@' in '@'"),
        (("show",), 2, "MissingParameter", "Missing argument 'REF'."),
        (("lst",), 2, "UsageError", "No such command 'lst'. Nearest are: list"),
        (("list", "--sort", "size"), 1, "NotFound", "no column called 'size'"),
    ],
)
def test_an_error_is_one_json_object_on_stderr(shell, arguments, code, kind, what):
    done = shell.run(*arguments, "--json", code=code)
    assert done.stdout == ""
    error = json.loads(done.stderr)
    jsonschema.validate(error, SCHEMA["$defs"]["error"])
    assert error["error"]["type"] == kind
    assert error["error"]["what"].startswith(what)


def test_the_exit_code_says_whether_two_bases_are_one(shell, tiny_llama):
    same = ("base", "compare", "fleet/ship", "fleet/ship", "--exit-code")
    other = ("base", "compare", "fleet/ship", tiny_llama)
    assert "same" in shell.run(*same).stdout
    assert "different" in shell.run(*other).stdout
    assert "different" in shell.run(*other, "--exit-code", code=1).stdout


def test_the_exit_code_says_whether_something_is_outdated(shell):
    shell.run("remote", "add", "team", (shell.folder / "team").as_uri())
    shell.run("push", "naval", "team")
    (shell.folder / "adaptkit.toml").write_text(
        f'[adapters]\nnaval = "{(shell.folder / "team").as_uri()}/naval"\n'
    )
    shell.run("lock")
    shell.run("outdated", "--exit-code")
    shell.run("add", "fleet/medic", "--name", "naval")
    shell.run("push", "naval", "team")
    shell.run("outdated")
    assert shell.json("outdated")[0]["current"] is False
    shell.run("outdated", "--exit-code", code=1)


def test_wrong_usage_outside_json_stays_text(tmp_path):
    done = run(["show"], tmp_path)
    assert done.returncode == 2
    assert "Usage: adaptkit show" in done.stderr
