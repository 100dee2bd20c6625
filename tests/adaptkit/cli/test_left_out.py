"""Nothing that was typed is left out without a word, and what is wrong is answered with what to type."""

from __future__ import annotations

import ast
from pathlib import Path

import click
import numpy as np
import pytest
from command_line import Shell
from safetensors.numpy import save_file

import adaptkit.cli

CLI = Path(adaptkit.cli.__file__).parent


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    made = Shell(tmp_path_factory.mktemp("left_out"))
    made.run("demo", "fleet")
    made.run("init")
    made.run("add", "fleet/naval", "--name", "naval", "--alias", "prod")
    made.run("add", "fleet/medic", "--name", "medic")
    made.run("remote", "add", "team", (made.folder / "team").as_uri())
    made.run("push", "naval@prod", "team")
    return made


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("note naval", 1, "nothing to note on naval@1: no message, tag, metric or description"),
        ("log naval@99", 1, "no version of naval called '99': known is 1"),
        ("log naval --graph --events", 2, "--graph draws versions, --events lists what was done"),
        ("log --events --limit 0", 2, "0 is not in the range x>=1"),
        ("show naval --recipe", 1, "there is no recipe of naval@1: it was added, and what made it"),
        ("show @prod", 1, "cannot read '@prod': the name before the @ is missing"),
        ("show deadbeef00", 1, "of a digest: sha256:deadbeef00"),
        ("list --rank abc", 1, "'abc' is not a condition on the rank: it is a number, or one of"),
        ("list --method lor", 1, "no method called 'lor': known are"),
        ("list team", 0, "no adapter matches: adaptkit list team: lists the remote of that name"),
        ("list team:zzz", 0, "nothing found in team: adaptkit remote show team"),
        ("list --columns nope --json", 1, "no column called 'nope'"),
        ("pull team", 1, "'team' is a remote: a pull names an adapter in it"),
        ("remote add more s3:/bucket/x", 1, "for example s3://bucket/x"),
        ("rename naval naval", 1, "cannot rename naval to naval: that is what it is called"),
        ("rename naval con", 1, "'con' means something else, here or to Windows"),
        ("rename naval x@y@z", 1, "for example x"),
        ("rename naval naval@2", 1, "it names a version, and the whole adapter is meant here"),
        ("alias naval prod v1", 1, "naval@1"),
        ("alias naval prod medic@1", 2, "medic@1 is no version of naval: give its number"),
        ("alias prod naval 1", 2, "NAME comes first: adaptkit alias naval prod 1"),
        ("alias naval prod 1", 0, "naval@prod: 1, as before"),
        ("merge naval medic --name x --keep ratio", 1, "no --energy is given"),
        ("merge naval medic --out x --alias prod", 1, "--alias goes with --name: a folder is not"),
        ("merge naval medic --out x -m hello", 1, "--message goes with --name"),
        ("resize naval --rank 4 --out x --new-version", 1, "--new-version goes with --name"),
        ("merge naval 0.5 medic --name x", 1, "a weight goes behind its adapter: naval=0.5"),
        ("merge naval medic --dry-run --strategy tise", 1, "no strategy called 'tise'"),
        ("merge naval medic --dry-run --strategy ties --param densty=1", 1, "called 'densty'"),
        ("merge naval medic --dry-run --space cores", 1, "no space called 'cores'"),
        ("plot similarity naval medic --out x.png --size 3", 2, "are of parameters, not of"),
        ("plot parameters --out x.png --base fleet/ship --size 3", 2, "one of them"),
        ("export naval x.pt", 1, "for example x.safetensors"),
        ("add fleet/naval/adapter_model.bin --name x", 1, "no adapter at"),
        (
            "serve --base fleet/ship -- --x",
            2,
            "--x is an option of another engine: what follows --",
        ),
        ("generate naval --base fleet/ship --prompt -", 2, "nothing came from there"),
    ],
)
def test_it_is_named(shell, line, code, said):
    done = shell.run(*line.split(), code=code)
    assert said in done.stderr + done.stdout
    assert "this is a bug" not in done.stderr


def test_an_alias_may_point_where_another_does(shell):
    shell.run("alias", "naval@prod", "staging")
    assert shell.run("alias", "naval", "live", "staging").stdout == "naval@live: nothing → 1\n"
    assert shell.run("alias", "naval", "newest", "naval").stdout == "naval@newest: nothing → 1\n"


def test_what_a_table_shows_of_a_digest_may_be_pasted(shell):
    short = shell.json("show", "naval")["digest"][:19]
    for ref in (f"{short}…", f"naval@{short}…"):
        assert shell.json("show", ref)["digest"].startswith(short)
    assert shell.run("log", f"{short}…").stdout.startswith("naval@1")


def test_a_remote_is_searched_and_json_may_stand_first(shell):
    assert shell.run("list", "team:nav").stdout.startswith("team:naval@1\t")
    assert shell.json("list", "team:nav")[0]["name"] == "team:naval"
    assert '"ref": "naval@1"' in shell.run("--json", "show", "naval").stdout
    assert '"adapters": 2' in shell.run("--json").stdout


def test_files_of_another_tool_are_named_after_themselves_and_exported_as_one(shell):
    layer = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    save_file(
        {
            f"{layer}.lora_down.weight": np.ones((2, 8), "f4"),
            f"{layer}.lora_up.weight": np.ones((8, 2), "f4"),
            f"{layer}.alpha": np.array(2.0, "f4"),
        },
        shell.folder / "my style v2.safetensors",
    )
    shell.run("add", "my style v2.safetensors", "--name-from", "{dir}")
    shell.run("export", "my-style-v2", "out.safetensors")
    assert (shell.folder / "out.safetensors").is_file()
    assert "  written " in shell.run("show", "./my style v2.safetensors").stdout
    (shell.folder / "old.ckpt").write_bytes(b"x")
    assert (
        "write it as .safetensors there"
        in shell.run("add", "old.ckpt", "--name", "x", code=1).stderr
    )


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(variable, monkeypatch, capsys):
    from adaptkit.cli.output.sink import Output

    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_: False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Output().warn("careful")
    assert "\x1b[" in capsys.readouterr().err
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    Output().warn("careful")
    assert capsys.readouterr().err == "warning: careful\n"


# ---------------------------------------------------------------- tables

WITHOUT = {
    "eval": "its columns are suites",
    "generate": "answers of several adapters",
    "mirror": "what was sent, as it was sent",
    "search": "its rows are trials in their order",
    "sweep": "its rows are steps in their order",
    "sync": "what came, as it came",
    "plugins trust": "what was pinned",
}
"""Commands whose table is no list to look things up in."""


def calls_of_table():
    """Each call of `out.table`, with the function that it is in."""
    for path in sorted(CLI.rglob("*.py")):
        tree = ast.parse(path.read_text())
        heads = {
            ast.unparse(one.targets[0]): one.value
            for one in tree.body
            if isinstance(one, ast.Assign)
        }
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                    if (
                        named
                        and node.func.attr == "table"
                        and ast.unparse(node.func.value).endswith("out")
                    ):
                        node.args[1:2] = [
                            heads.get(ast.unparse(one), one) for one in node.args[1:2]
                        ]
                        yield function.name, node


def test_every_list_can_be_sorted_cut_and_narrowed():
    from adaptkit.cli.app import app

    printing = {name for name, _ in calls_of_table()}
    lacking, seen = set(), 0

    def look(context, command, path):
        nonlocal seen
        for name in command.list_commands(context) if isinstance(command, click.Group) else ():
            inner = command.get_command(context, name)
            look(click.Context(inner, context, name), inner, f"{path} {name}".strip())
        callback = getattr(command, "callback", None)
        if callback is not None and callback.__name__ in printing:
            seen += 1
            if not {"sort", "limit", "columns"} <= {one.name for one in command.params}:
                lacking.add(path)

    look(app.make_context("adaptkit", ["plugins"]), app, "")
    assert lacking - {"log"} == set(WITHOUT)  # `log --limit` is of versions, too
    assert seen > 12


def test_every_column_can_be_chosen_by_its_head():
    heads = [node.args[1] for _, node in calls_of_table() if len(node.args) > 1]
    written = [ast.literal_eval(head) for head in heads if isinstance(head, ast.Tuple)]
    assert len(written) > 10
    for head in written:
        assert all(name and "," not in name for name in head), head
        assert len({name.lower() for name in head}) == len(head)
