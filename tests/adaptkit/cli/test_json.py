"""`--json`: stdout is one value of the documented form, stderr is JSON lines, for every command."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import jsonschema
import pytest
from command_line import Shell, run
from documented import SCHEMA, check
from keypairs import key_pair

SWEEP = """
name: nightly
base: fleet/ship
sets: {skills: {name: naval}}
steps:
  - evaluate: {of: skills, suites: [ship.jsonl]}
"""


@pytest.fixture
def shell(tmp_path):
    made = Shell(tmp_path)
    made.run("demo", "fleet")
    made.run("init")
    made.run("add", "fleet/naval", "--name", "naval", "--base", "fleet/ship", "--alias", "prod")
    made.run("add", "fleet/medic", "--name", "medic", "--base", "fleet/ship")
    return made


@pytest.mark.long
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
        "config unset": ("author",),
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


@pytest.mark.long
def test_every_result_of_models_and_projects_has_its_documented_form(shell):
    prompts = {"ship": "Log: hull {}%. Status of the hull?", "sickbay": "Log: pulse {} u. Status?"}
    for name, prompt in prompts.items():
        rows = [{"prompt": prompt.format(i), "completion": f"{i}."} for i in range(90, 95)]
        (shell.folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
    for remote in ("team", "spare"):
        shell.run("remote", "add", remote, (shell.folder / remote).as_uri())
    shell.run("push", "naval", "team")
    shell.run("merge", "naval", "medic", "--name", "bridge")
    place = (shell.folder / "team" / "naval").as_uri()
    (shell.folder / "adaptkit.toml").write_text(f'[adapters]\nnaval = "{place}"\n')
    (shell.folder / "sweep.yaml").write_text(SWEEP)
    key = key_pair(shell.folder, "key").private
    base = ("--base", "fleet/ship")
    prompt = ("--prompt", "Log: hull 90%. Status of the hull?")
    parents = ("--data", "naval=ship.jsonl", "--data", "medic=sickbay.jsonl")
    commands = {
        "bake": ("naval", *base, "--out", "baked"),
        "strip": ("naval", "--modules", "*q_proj", "--out", "stripped"),
        "calibrate": ("naval", *base, "--data", "ship.jsonl"),
        "distil": ("bridge", *base, *parents, "--steps", 2),
        "train": ("--name", "own", *base, "--data", "ship.jsonl", "--steps", 2, "--length", 64),
        "eval": ("naval", "--suite", "ship.jsonl", *base),
        "search": (
            *("naval", "medic", *base, "--suite", "ship.jsonl"),
            *("--name", "found", "--trials", 2),
        ),
        "plot": ("parameters", *base, "--rank", 8, "--out", "parameters.png"),
        "generate": ("naval", *prompt, *base),
        "chat": ("naval", *base),
        "remote check": ("team",),
        "mirror": ("team", "spare"),
        "remote remove": ("spare",),
        "lock": (),
        "sync": (),
        "outdated": (),
        "preflight": ("naval", "--for", "vllm"),
        "sign": ("naval", "--key", key),
        "base add": ("fleet/ship",),
        "base alias": ("boat", "ship"),
        "base check": ("fleet/ship",),
        "base verify": ("naval", *base),
        "config get": ("author",),
        "registry export": ("all.jsonl",),
        "registry import": ("all.jsonl",),
        "registry rebuild": ("--from", "team"),
        "plugins trust": (),
        "sweep": ("sweep.yaml",),
    }
    for command, arguments in commands.items():
        done = shell.run(*command.split(), *arguments, "--json", given="Status?\n")
        check(command, json.loads(done.stdout))
        for line in done.stderr.splitlines():
            assert set(json.loads(line)) <= {"note", "warning"}, (command, line)
    shell.run("add", "fleet/medic", "--name", "naval")
    check("outdated", shell.json("outdated", "--lineage"))


def test_the_documented_forms_are_a_json_schema():
    whole = {"$defs": SCHEMA["$defs"], "properties": SCHEMA["commands"]}
    jsonschema.Draft202012Validator.check_schema(whole)


def leaves(command, path=()):
    if isinstance(command, click.Group) and path != ("plugins",):
        for name in command.list_commands(click.Context(command)):
            yield from leaves(command.get_command(click.Context(command), name), (*path, name))
    elif not command.hidden:
        yield " ".join(path), {option for p in command.params for option in p.opts}


def test_every_command_takes_json_and_its_form_is_documented():
    from adaptkit.cli.app import app

    found = dict(leaves(app))
    assert [name for name, options in found.items() if "--json" not in options] == []
    assert sorted(set(found) - set(SCHEMA["commands"])) == []


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "what"),
    [
        (("show", "nope"), 1, "NotFound", "no adapter called 'nope'"),
        (("show", "@"), 1, "BadReference", "cannot read '@'"),
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


def test_what_a_library_writes_to_stderr_is_a_json_line_too(tmp_path):
    code = (
        "import sys, logging\n"
        "from adaptkit.cli import main\n"
        "import adaptkit.cli.home.status as home\n"
        "def status():\n"
        "    logging.warning('mtime is\\x1b[2J not reliable')\n"
        "    print('half', end='', file=sys.stderr)\n"
        "home.status.callback = status\n"
        "main(['status', '--json'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "\x1b" not in done.stderr
    assert [json.loads(line) for line in done.stderr.splitlines()] == [
        {"note": "WARNING:root:mtime is\x1b[2J not reliable"},
        {"note": "half"},
    ]


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
