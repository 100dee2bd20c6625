"""adaptkit.cli.completion: a real bash completes names, aliases, versions, remotes and options; quickly."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import click
import pytest
from command_line import ADAPTKIT, Shell

from adaptkit.cli.completion.names import DTYPES, SPACES, home_of
from adaptkit.extend import Space
from adaptkit.io.safetensors.reader import STORED_DTYPES
from adaptkit.workspace.context.home import Home


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    made = Shell(tmp_path_factory.mktemp("completion"))
    made.run("demo", "fleet")
    made.run("init")
    made.run("add", "fleet/naval", "--name", "naval", "--alias", "prod")
    made.run("add", "fleet/medic", "--name", "navy")
    made.run("add", "fleet/medic", "--name", "old")
    made.run("note", "naval", "--tag", "approved")
    made.run("remote", "add", "team", (made.folder / "team").as_uri())
    made.run("push", "naval@prod", "team")
    made.run("rm", "old", "--yes")
    made.run("base", "add", "fleet/ship", "--name", "ship")
    return made


def in_bash(line, shell):
    """What bash offers at the end of a line, through the script that `completion bash` prints."""
    script = (
        'source <("$ADAPTKIT" completion bash); COMP_LINE="$LINE"; COMP_POINT=${#LINE}; '
        'compopt() { echo "compopt $*"; }; COMPREPLY=(); '
        '_adaptkit_completion "$ADAPTKIT"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=shell.folder,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ
        | {"ADAPTKIT": str(ADAPTKIT), "LINE": line, "ADAPTKIT_HOME": str(shell.home)},
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="install bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("adaptkit show na", ["naval", "navy"]),
        ("adaptkit show naval@", ["prod", "1"]),  # bash breaks the word at the @
        ("adaptkit show naval@p", ["prod"]),
        ("adaptkit merge naval=0.5 nav", ["naval", "navy"]),
        ("adaptkit merge naval navy --strategy dare_l", ["dare_linear", "dare_linear:mergekit"]),
        ("adaptkit merge naval --space k", ["knots"]),
        ("adaptkit merge naval --dtype bf", ["bfloat16"]),
        ("adaptkit merge naval --strategy ties --param d", ["density="]),
        ("adaptkit push naval te", ["team"]),
        ("adaptkit pull te", ["team:"]),
        ("adaptkit pull team:", ["naval"]),
        ("adaptkit list --tag a", ["approved"]),
        ("adaptkit restore o", ["old@1"]),
        ("adaptkit rollback naval p", ["prod"]),
        ("adaptkit strat", ["strategies"]),
        ("adaptkit remote r", ["rename", "rm"]),
        ("adaptkit alias navy prod ", ["1"]),
        ("adaptkit eval naval --baseline nav", ["naval", "navy"]),
        ("adaptkit add fleet/naval --name na", ["naval", "navy"]),
        ("adaptkit serve na", ["naval", "navy"]),
        ("adaptkit serve --engine v", ["vllm"]),
        ("adaptkit fsck --on ", ["dask://", "local", "ray://"]),
        ("adaptkit export naval out --to k", ["kohya"]),
        ("adaptkit export naval out --for v", ["vllm"]),
        ("adaptkit config set pro", ["protected"]),
        ("adaptkit list te", ["team:"]),
        ("adaptkit note naval --remove-tag a", ["approved"]),
        ("adaptkit registry rebuild --from t", ["team"]),
        ("adaptkit base show sh", ["ship"]),
        ("adaptkit list --sort ve", ["version"]),
        ("adaptkit list --columns version,r", ["version,rank"]),
        ("adaptkit list --columns rank,R", []),
        ("adaptkit outdated --columns wa", ["wanted"]),
    ],
)
def test_bash_offers_what_fits(line, offered, shell):
    marks = {"compopt", "-o", "nospace", "default"}
    found = [one for one in in_bash(line, shell) if one not in marks]
    assert found == offered


IN_EVERY_SHELL = [
    ("adaptkit show nava", "naval"),
    ("adaptkit show naval@pr", "naval@prod"),
    ("adaptkit merge navy=0.5 nava", "naval"),
    ("adaptkit pull team:na", "team:naval"),
    ("adaptkit list --columns version,ra", "version,rank"),
    ("adaptkit add fle", "fleet/"),
]


@pytest.mark.skipif(shutil.which("fish") is None, reason="install fish")
def test_a_real_fish_offers_the_same_and_whole_descriptions(shell, tmp_path):
    lines = [line for line, _ in IN_EVERY_SHELL] + ["adaptkit remote chec"]
    asked = "\n".join(f"complete -C '{line}'; echo ==" for line in lines)
    done = subprocess.run(
        ["fish", "-c", f"{ADAPTKIT} completion fish | source\n{asked}"],
        cwd=shell.folder,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ
        | {
            "ADAPTKIT_HOME": str(shell.home),
            "HOME": str(tmp_path),
            "PATH": f"{Path(ADAPTKIT).parent}:{os.environ['PATH']}",
        },
    )
    *answers, described, _ = done.stdout.split("==\n")
    for (_, offered), answer in zip(IN_EVERY_SHELL, answers, strict=True):
        assert offered in answer.split()
    assert described == (
        "check\tTry what a remote promises: write a probe there, read it back, compare, and delete it.\n"
    )


@pytest.mark.skipif(shutil.which("zsh") is None, reason="install zsh")
def test_a_real_zsh_completes_the_word_at_the_cursor(shell, tmp_path):
    main, side = pty.openpty()
    zsh = subprocess.Popen(
        ["zsh", "-f", "-i"],
        cwd=shell.folder,
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        env=os.environ
        | {
            "ADAPTKIT_HOME": str(shell.home),
            "ZDOTDIR": str(tmp_path),
            "TERM": "dumb",
            "PATH": f"{Path(ADAPTKIT).parent}:{os.environ['PATH']}",
        },
    )
    os.close(side)

    def typed(keys, awaited):
        os.write(main, keys.encode())
        seen = ""
        while awaited not in seen:
            ready, _, _ = select.select([main], [], [], 30)
            assert ready, seen
            seen += os.read(main, 65536).decode(errors="replace")

    try:
        typed(
            f"PS1='> '; autoload -Uz compinit; compinit -u -d {tmp_path}/dump; "
            "source <(adaptkit completion zsh); echo rea''dy\n",
            "ready",
        )
        for line, offered in IN_EVERY_SHELL:
            typed(f"\x15{line}\t", f"{line.rpartition(' ')[0]} {offered}")
    finally:
        os.close(main)
        zsh.kill()
        zsh.wait()


FREE = {
    # texts, names that are new, and what only the person knows
    "message",
    "describe",
    "prompt",
    "check",
    "system",
    "new",
    "name_from",
    "quantised",
    "include",
    "modules",
    "pool",
    "branch",
    "study",
    "storage",
    "host",
    "launch",
    "columns",
    "target_modules",
    "init",
    "set_",
    "set",
    "schedule",
    "optimizer",
    "report_to",
    "task",
    "extra",
    "url",
    "values",
    "distributions",
    "into",
    # conditions, sizes and ages
    "rank",
    "metrics",
    "without_metrics",
    "team",
    "memory",
    "cache",
    "grace",
    "trash",
    "weights",
    "chat_template",
}
"""Parameters for which nothing can be offered."""


def test_every_parameter_that_has_a_known_choice_offers_it(shell, monkeypatch):
    from adaptkit.cli.app import app

    monkeypatch.setenv("_ADAPTKIT_COMPLETE", "bash_complete")
    monkeypatch.setenv("ADAPTKIT_HOME", str(shell.home))
    monkeypatch.chdir(shell.folder)
    silent, seen = set(), 0

    def look(context, command):
        nonlocal seen
        for name in command.list_commands(context) if isinstance(command, click.Group) else ():
            inner = command.get_command(context, name)
            look(click.Context(inner, context, name), inner)
        for one in command.params:
            number = isinstance(one.type, click.types.IntParamType | click.types.FloatParamType)
            if getattr(one, "is_flag", False) or number or isinstance(one.type, click.Choice):
                continue
            seen += 1
            if not one.shell_complete(context, "") and one.name not in FREE:
                silent.add(f"{context.command_path} {one.name}")

    look(app.make_context("adaptkit", ["plugins"]), app)
    # a new name, and what follows from something else on the line, or from a project's file
    rest = {"alias version", "lock update", "merge params", "remote add name", "search params"}
    assert silent == {f"adaptkit {one}" for one in rest}
    assert seen > 150


@pytest.mark.parametrize(
    "line",
    [
        "adaptkit add fl",
        "adaptkit show ./fl",
        "adaptkit compose re",
        "adaptkit train --data ro",
        "adaptkit sign naval --key k",
        "adaptkit eval naval --suite s",
    ],
)
def test_bash_completes_files_itself(line, shell):
    assert in_bash(line, shell)[:3] == ["compopt", "-o", "default"]


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_names_the_program_and_its_variable(name, shell):
    script = shell.run("completion", name).stdout
    assert "_ADAPTKIT_COMPLETE=" in script
    assert "adaptkit" in script


def test_completing_a_name_loads_nothing_slow(shell):
    code = (
        "import sys, os\nfrom adaptkit.cli import main\n"
        "try: main([])\nexcept SystemExit: pass\n"
        "print(sorted({'sqlalchemy','numpy','torch','rich','pluggy','huggingface_hub'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=shell.folder,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ
        | {
            "_ADAPTKIT_COMPLETE": "bash_complete",
            "COMP_LINE": "adaptkit show na",
            "COMP_POINT": "16",
            "ADAPTKIT_HOME": str(shell.home),
        },
    )
    assert done.stdout.splitlines() == ["plain,naval", "plain,navy", "[]"]


def test_a_broken_registry_offers_nothing_and_prints_nothing(shell, tmp_path):
    broken = Shell(tmp_path)
    broken.home.mkdir()
    (broken.home / "registry.db").write_bytes(b"no database")
    assert in_bash("adaptkit show na", broken) == []


@pytest.mark.parametrize("given", [None, "given"])
@pytest.mark.parametrize("environment", [{}, {"ADAPTKIT_HOME": "~/elsewhere"}])
@pytest.mark.parametrize("above", [True, False])
def test_completion_finds_the_home_that_commands_find(
    given, environment, above, tmp_path, monkeypatch
):
    (tmp_path / "inner").mkdir()
    if above:
        (tmp_path / ".adaptkit").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    context = click.Context(click.Command("adaptkit"))
    context.params = {"home": Path(given) if given else None}
    wanted = Home.find(Path(given) if given else None, environment).path
    assert home_of(context, environment) == wanted


def test_what_is_offered_is_what_there_is():
    assert set(DTYPES) == set(STORED_DTYPES)
    assert set(SPACES) == set(get_args(Space))
