"""The command line as people use it: exact forms, error messages instead of tracebacks."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import tiny
from command_line import ADAPTKIT, Shell, checked, run, run_process

from adaptkit.cli.app import COMMANDS
from adaptkit.cli.help.tasks import CALLED


@pytest.fixture
def shell(tmp_path):
    made = Shell(tmp_path)
    made.run("init")
    return made


@pytest.fixture(scope="session")
def template(tmp_path_factory, lora_pair):
    """A workspace with two adapters, made once; tests work on copies."""
    made = Shell(tmp_path_factory.mktemp("template"))
    made.run("init")
    made.run("add", lora_pair[0], "--name", "naval", "--alias", "prod", "-m", "first")
    made.run("add", lora_pair[1], "--name", "medic")
    return made


@pytest.fixture
def filled(template, tmp_path):
    shutil.copytree(template.home, tmp_path / ".adaptkit")
    return Shell(tmp_path)


def contents(home):
    """Everything that the registry holds."""
    with closing(sqlite3.connect(home / "registry.db")) as database:
        return list(database.iterdump())


def test_documented_commands_print_documented_output(shell, lora_pair, tiny_llama, tmp_path):
    one, two = lora_pair
    assert shell.json("list") == []
    added = shell.json(
        "add", one, "--name", "naval", "--base", tiny_llama, "-m", "first", "--alias", "prod"
    )
    assert {"name", "version", "digest", "method", "rank", "base"} <= added.keys()
    assert (added["name"], added["version"], added["method"], added["rank"]) == (
        "naval",
        1,
        "lora",
        4,
    )
    assert added["base"]["status"] == "verified"
    assert set(added["base"]["levels"]) == {"as1", "fs1", "tm1"}
    shell.run("add", two, "--name", "medic")
    assert [v["name"] for v in shell.json("list")] == ["medic", "naval"]
    assert [v["name"] for v in shell.json("list", "--base", tiny_llama, "--method", "lora")] == [
        "medic",
        "naval",
    ]
    assert shell.json("show", "naval@prod")["version"] == 1
    assert len(shell.json("log", "naval")["versions"]) == 1
    assert (Path(shell.run("path", "naval").stdout.strip()) / "adapter_config.json").is_file()
    noted = shell.json(
        "note", "naval", "-m", "second thoughts", "--tag", "ok", "--metric", "exact=0.5"
    )
    assert (noted["message"], noted["tags"], noted["metrics"]) == (
        "second thoughts",
        ["ok"],
        {"exact": 0.5},
    )
    merged = shell.json(
        "merge", "naval@prod=0.7", "medic=0.3", "--name", "bridge", "--rank", 5, "--seed", 3
    )
    assert {"strategy", "space", "rank", "ranks", "digest", "error", "from_sum"} <= merged.keys()
    assert (merged["strategy"], merged["rank"]) == ("linear", 5)
    assert 0 < merged["error"]["total"] == merged["from_sum"] < 1
    assert set(merged["error"]["modules"]) == set(merged["ranks"])
    outside = shell.json(
        "merge",
        f"{one}=0.7",
        f"{two}=0.3",
        "--out",
        tmp_path / "out",
        "--strategy",
        "svd",
        "--normalize",
        "--dtype",
        "float16",
        "--missing",
        "zero",
        "--extras",
        "drop",
    )
    assert (outside["rank"], outside["dtype"], outside["name"]) == (8, "F16", None)
    assert shell.json("alias", "medic", "prod", 1, "--expect", 0)["new"] == 1
    shell.run("add", one, "--name", "medic")
    shell.run("alias", "medic", "prod", 2)
    assert shell.json("rollback", "medic", "prod")["new"] == 1
    shell.run("export", "naval", tmp_path / "copy")
    assert (tmp_path / "copy" / "adaptkit.json").is_file()
    team = (tmp_path / "team").as_uri()
    shell.run("remote", "add", "team", team)
    assert shell.json("remote", "list") == [{"name": "team", "url": team}]
    assert shell.json("push", "bridge", "team")["number"] == 1
    assert shell.json("push", "bridge", f"{team}/bridge")["unchanged"] is True
    assert shell.json("pull", "team:bridge@1", "--name", "pulled")["version"] == 1
    assert shell.json("verify", "bridge") == {
        "sound": [merged["digest"]],
        "damaged": [],
        "elsewhere": [],
        "bases": {"verified": 2},
    }
    shell.run("verify")
    shell.run("rm", "pulled", "--yes")
    assert shell.json("restore")[0]["name"] == "pulled"
    shell.run("restore", "pulled@1")
    shell.run("remote", "remove", "team")
    assert shell.json("plugins")[0]["status"] == "loaded"
    assert shell.run("show", "bridge", "--recipe").stdout.startswith("{")
    assert shell.json("base", "list")[0]["versions"] == 5
    assert shell.json("base", "show", tiny_llama)["status"] == "measured"
    assert shell.json("base", "compare", tiny_llama, tiny_llama)["sameness"] == "same"


def test_resize_convert_and_bake_print_documented_output(filled, tiny_llama, tmp_path):
    assert "try --strategy" in filled.run("diff", "naval", "medic").stdout
    assert {"adapters", "pairs", "truncation", "advice"} <= filled.json(
        "merge", "naval", "medic", "--name", "x", "--dry-run"
    ).keys()
    assert [v["name"] for v in filled.json("list")] == ["medic", "naval"]
    assert filled.json("resize", "medic", "--rank", 3, "--name", "small")["rank"] == 3
    assert "error: cannot resize medic: neither a rank nor a share is given" in filled.refused(
        "resize", "medic", "--name", "small"
    )
    assert filled.json("convert", "naval", "--out", tmp_path / "converted")["error"]["total"] == 0
    (tmp_path / "bridge.yaml").write_text(
        "adapters: [naval@prod, {ref: medic, weight: 0.5}]\nrank: 4\n"
    )
    assert filled.json("compose", "bridge.yaml", "--name", "bridge")["rank"] == 4
    recipe = filled.run("show", "bridge", "--recipe").stdout
    (tmp_path / "again.json").write_text(recipe)
    assert filled.json("compose", "again.json", "--name", "bridge")["created"] is False
    baked = filled.json("bake", "naval", "--base", tiny_llama, "--out", tmp_path / "model")
    assert len(baked["changed"]) == 4
    extracted = filled.json(
        "extract", tmp_path / "model", "--base", tiny_llama, "--rank", 4, "--name", "found"
    )
    assert extracted["error"]["total"] < 1e-4
    filled.run("plot", "spectrum", "naval", "medic", "--out", tmp_path / "spectrum.png")
    assert (tmp_path / "spectrum.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_merge_prints_is_read_by_a_person(filled):
    text = filled.run("merge", "naval=0.7", "medic", "--name", "bridge").stdout
    assert text.startswith("bridge@1  sha256:")
    assert "0.7·naval + 1·medic" in text
    assert (
        filled.run("merge", "naval=0.7", "medic", "--name", "bridge")
        .stdout.splitlines()[0]
        .endswith("unchanged")
    )


def test_data_is_on_stdout_and_everything_else_on_stderr(filled):
    done = checked(
        run_process(["list", "--method", "generic"], filled.folder, ADAPTKIT_HOME=str(filled.home))
    )
    assert done.stdout == ""
    assert "no adapter matches" in done.stderr
    assert filled.run("list", "--columns", "version").stdout == "medic@1\nnaval@1\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "./nowhere", "--name", "x"], "no adapter at nowhere: the path does not exist"),
        (["add", ".adaptkit/registry.db", "--name", "x"], "is a file: an adapter is a folder"),
        (["add", ".", "--name", "x"], "has no adapter_config.json"),
        (["add", "ONE", "--name", "a/b/c"], "'a/b/c' is not a name"),
        (["add", "ONE", "--name", "latest"], "'latest' is not a name"),
        (["add", "ONE", "--name", "x", "--alias", "3"], "'3' cannot be an alias"),
        (
            ["add", "ONE", "--name", "x", "--base", "./nowhere"],
            "no base folder at ./nowhere: the path does not exist",
        ),
        (["show", "navel"], "no adapter called 'navel': known are naval, medic"),
        (["show", "naval@9"], "no version of naval called '9': known is 1"),
        (["show", "naval@prd"], "no alias of naval called 'prd': known is prod"),
        (["show", "./TWO"], "no adapter at ./TWO: the path does not exist"),
        (["show", "sha256:00000000"], "no artifact with digest called 'sha256:00000000'"),
        (
            ["merge", "naval", "medic", "--name", "b", "--strategy", "liner"],
            "no strategy called 'liner': known are linear",
        ),
        (["merge", "naval=nan", "medic", "--name", "b"], "the weight of 'naval' is nan"),
        (["merge", "naval=inf", "medic", "--name", "b"], "the weight of 'naval' is inf"),
        (
            ["merge", "naval:0.8", "medic", "--name", "b"],
            "a weight follows a =\n  for example naval=0.8",
        ),
        (
            ["merge", "naval", "=", "0.8", "--name", "b"],
            "'=' names no adapter: no blank is beside a =",
        ),
        (["merge", "naval=0", "medic=0", "--name", "b"], "all weights are zero"),
        (["merge", "naval=0.7", "naval@prod=0.3", "--name", "b"], "are the same adapter"),
        (
            ["merge", "naval", "medic", "--name", "b", "--rank", "99"],
            "--rank is 99: the whole result has rank 12",
        ),
        (
            ["merge", "naval", "medic", "--name", "b", "--param", "x=1"],
            "no parameter of 'linear' called 'x'",
        ),
        (["merge", "naval", "medic"], "the new adapter goes to one place"),
        (["merge", "naval", "medic", "--out", ".adaptkit"], "is not empty"),
        (["merge", "naval", "medic", "--name", "b", "--extras", "avg"], "--extras is 'avg'"),
        (["alias", "naval", "prod", "7"], "no version of naval called '7'"),
        (["alias", "naval", "prod", "1", "--expect", "5"], "it points at 1, not at 5"),
        (
            ["rollback", "naval", "prod"],
            "cannot roll back naval@prod: it has no earlier target",
        ),
        (["rm", "naval", "--yes"], "the alias prod points at it"),
        (["restore", "naval"], "a version in the trash is named by its number"),
        (["push", "naval", "nowhere"], "no remote called 'nowhere'"),
        (["push", "naval", "gopher://x/y"], "no storage backend called 'gopher': known are "),
        (["push", "naval", "file:///tmp/x@3"], "the place gives the number"),
        (["pull", "naval"], "a pull names a URL or REMOTE:NAME"),
        (
            ["pull", "file:///nowhere/at/all"],
            "no version in file:///nowhere/at/all: there is none yet\n  check the URL for a typo",
        ),
        (["add", "nowhere"], "no adapter at nowhere: the path does not exist"),
        (["remote", "add", "x", "gopher://y"], "no storage backend called 'gopher'"),
        (["remote", "add", "x", "file://relative/path"], "three slashes"),
        (["remote", "remove", "x"], "no remote called 'x'"),
        (["export", "naval", ".adaptkit"], "is not empty"),
        (["base", "show", "shp"], "no base called 'shp': known is llama"),
        (["list", "\udcff"], "cannot use '\\udcff': it has bytes that are not UTF-8"),
        (["config", "set", "author", "\udcff"], "it has bytes that are not UTF-8"),
        (
            ["merge", "naval", "medic", "--name", "b", "--on", "locl"],
            "no executor called 'locl': known are local",
        ),
        (
            ["merge", "naval", "medic", "--dry-run", "--on", "locl"],
            "no executor called 'locl': known are local",
        ),
        (["config", "set", "executor", "locl"], "no executor called 'locl': known are local"),
        (["registry", "export", "ONE/adapter_config.json"], "that file is no registry export"),
    ],
)
def test_a_mistake_prints_an_error_message_and_changes_nothing(
    arguments, message, filled, lora_pair, tmp_path
):
    if not (tmp_path / "ONE").exists():
        shutil.copytree(lora_pair[0], tmp_path / "ONE")
    before = contents(filled.home)
    assert message in filled.refused(*arguments)
    assert contents(filled.home) == before
    assert not list(filled.home.glob("tmp/.adaptkit-*"))


@pytest.mark.parametrize(
    "arguments", [["list"], ["show", "naval", "--json"], ["show", "navel"], ["lst"], ["--help"]]
)
def test_the_installed_command_prints_what_main_prints_in_this_process(arguments, filled):
    home = {"ADAPTKIT_HOME": str(filled.home)}
    here, there = (how(arguments, filled.folder, **home) for how in (run, run_process))
    assert (here.returncode, here.stdout, here.stderr) == (
        there.returncode,
        there.stdout,
        there.stderr,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lst"], "Nearest are: list"),
        (["config", "set", "protected"], "adaptkit config unset protected takes a setting away"),
        (
            ["eval", "naval", "--base", "ship", "--suite", "x.jsonl", "--png", "no/folder/x.png"],
            "Invalid value for '--png': no/folder is no folder",
        ),
        (["completion"], "Choose from:\n  bash,"),
        (["delete", "naval"], "No such command 'delete'. It is called rm: adaptkit rm --help"),
        (["alias", "prod", "naval@1"], "NAME comes first: adaptkit alias naval prod 1"),
        (["add", "."], "for example: adaptkit add . --name "),
        (["add", ".adaptkit", "naval"], "'naval' is no path, and a name goes behind --name: "),
        (
            ["alias", "naval", "1", "prod"],
            "ALIAS comes before VERSION: adaptkit alias naval prod 1",
        ),
        (["rollback", "prod", "naval"], "NAME comes first: adaptkit rollback naval prod"),
        (["log"], "give a NAME, or --events\n  for example: adaptkit log naval"),
        (["train"], "for example: adaptkit train --base models/ship"),
        (["merge", "--name", "x"], "REF"),
        (["merge", "naval", "--name", "x", "--rank", "many"], "not a valid integer"),
        (["merge", "naval", "--name", "x", "--param", "density"], "is not K=V"),
        (["note", "naval", "--metric", "exact=good"], "is not K=V with a number"),
        (["list", "--bse", "x"], "--base"),
        (["bake", "naval", "ship"], "for example: adaptkit bake naval@prod --base models/ship"),
        (["merge", "naval", "--weigh", "x"], "for example: adaptkit merge naval medic --name"),
        (["serve", "--base", "ship", "--route-within", "nan"], "'nan' is no number."),
        (["generate", "naval", "--base", "x", "--temperature", "nan"], "'nan' is no number."),
        (["registry", "rebuild", "team"], "for example: adaptkit registry rebuild --from team"),
    ],
)
def test_wrong_usage_ends_with_two(arguments, message, filled):
    assert message in filled.run(*arguments, code=2).stderr


def test_a_push_with_its_arguments_swapped_is_shown_the_right_way_round(filled, tmp_path):
    filled.run("remote", "add", "team", tmp_path.as_uri())
    swapped = filled.run("push", "team", "naval", code=2).stderr
    assert "'team' is a remote, and REF comes first: adaptkit push naval team" in swapped
    told = json.loads(filled.run("completion", "--json", code=2).stderr)["error"]
    assert told["what"].endswith("Choose from: bash, zsh, fish")


def test_a_tag_or_figure_that_no_version_has_is_named_with_the_nearest(filled):
    filled.run("note", "medic", "--tag", "approved", "--metric", "exact=0.9")
    tag = filled.run("list", "--tag", "aproved").stderr
    assert tag == "no version has the tag 'aproved': nearest is approved\n"
    figure = filled.run("list", "--metric", "exct>0.5").stderr
    assert figure == "no version has the figure 'exct': nearest is exact\n"
    assert "no adapter matches" in filled.run("list", "--metric", "exact>1").stderr


def test_a_setting_without_a_value_is_said(filled):
    done = filled.run("config", "get", "executor")
    assert (done.stdout.strip(), done.stderr) == (
        "",
        "executor is not set: adaptkit config set executor VALUE\n",
    )


def test_a_group_lists_its_commands_in_whole_sentences(filled):
    shown = filled.run("registry", "--help").stdout.partition("Commands:")[2]
    assert "..." not in shown
    assert "bytes stay in the store and in places." in shown


@pytest.mark.parametrize(
    ("answer", "why"), [("n\n", "the answer was no"), ("", "--yes goes on without asking")]
)
def test_rm_asks_first_and_does_nothing_without_a_yes(filled, answer, why):
    done = subprocess.run(
        [ADAPTKIT, "rm", "medic"],
        cwd=filled.folder,
        input=answer,
        capture_output=True,
        text=True,
        env=os.environ | {"ADAPTKIT_HOME": str(filled.home)},
        check=False,
    )
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert why in done.stderr
    assert [v["name"] for v in filled.json("list")] == ["medic", "naval"]


def test_a_locked_a_newer_and_a_foreign_database_are_error_messages(filled):
    database = filled.home / "registry.db"
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert "is locked: another process held it" in filled.refused(
        "note", "naval", "-m", "x", ADAPTKIT_BUSY_TIMEOUT="0.1"
    )
    holder.execute("ROLLBACK")
    holder.execute("UPDATE alembic_version SET version_num = '9999'")
    holder.close()
    assert "was written by a newer adaptkit" in filled.refused("list")
    for left in filled.home.glob("registry.db*"):
        left.unlink()
    database.write_text("this is a shopping list, and a long one at that")
    assert "is not a database" in filled.refused("list")


def test_a_traceback_is_shown_with_adaptkit_debug_only(filled):
    done = subprocess.run(
        [ADAPTKIT, "show", "nobody"],
        cwd=filled.folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ADAPTKIT_HOME": str(filled.home), "ADAPTKIT_DEBUG": "1"},
    )
    assert "Traceback" in done.stderr


def test_the_nearest_workspace_upward_is_used(filled):
    deep = filled.folder / "a" / "b"
    deep.mkdir(parents=True)
    environment = {k: v for k, v in os.environ.items() if k != "ADAPTKIT_HOME"}
    done = subprocess.run(
        [ADAPTKIT, "list", "--json"],
        cwd=deep,
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert len(json.loads(done.stdout)) == 2


def test_completion_offers_what_follows_the_at_sign(filled):
    done = run_process(
        [],
        filled.folder,
        ADAPTKIT_HOME=str(filled.home),
        _ADAPTKIT_COMPLETE="bash_complete",
        COMP_LINE="adaptkit show naval@p",
        COMP_POINT="21",
    )
    assert done.stdout == "plain,prod\n"  # bash has kept what stands before the @


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from adaptkit.cli import main; main(['--help']); "
        "print([m for m in ('torch','numpy','sqlalchemy','alembic','peft','rich','transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_looking_and_naming_load_no_numpy(filled):
    lines = [
        ["list"],
        ["show", "naval"],
        ["log", "naval"],
        ["lineage", "naval"],
        ["path", "naval"],
        ["status"],
        ["info"],
        ["base", "list"],
        ["note", "naval", "--tag", "terse"],
        ["alias", "naval", "prod", "1"],
    ]
    code = (
        "import sys; from adaptkit.cli import main\n"
        f"for line in {lines}:\n"
        "    assert main(line) == 0\n"
        "    heavy = ('torch','numpy','alembic','peft','rich','sqlalchemy.orm')\n"
        "    print('loaded', *line, [m for m in heavy if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"ADAPTKIT_HOME": str(filled.home)},
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("loaded ")]
    assert told == [f"loaded {' '.join(line)} []" for line in lines], done.stderr


def test_a_merge_loads_no_torch(filled, tmp_path):
    code = (
        "import sys; from adaptkit.cli import main; "
        f"main(['merge','naval','medic','--strategy','svd','--out',{str(tmp_path / 'o')!r}]); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"ADAPTKIT_HOME": str(filled.home)},
    )
    assert done.stdout.splitlines()[-1] == "False"
    tiny.reload_strictly(tiny.llama(), tmp_path / "o")


def test_a_merge_goes_straight_into_a_model(filled, tmp_path):
    base = str(filled.folder / "base")
    tiny.save_llama(filled.folder / "base")
    done = filled.run(
        "merge",
        "naval=0.5",
        "medic",
        "--into",
        "bake",
        tmp_path / "model",
        "--base",
        base,
        "--force",
    )
    assert "tensors changed" in done.stdout
    assert (tmp_path / "model" / "model.safetensors").is_file()
    for more, message in (
        (
            ["--name", "bridge", "--base", base],
            "makes a model, not an adapter: --name has no meaning",
        ),
        ([], "give the base it starts from, --base DIR"),
    ):
        done = filled.run(
            "merge", "naval", "medic", "--into", "bake", tmp_path / "other", *more, code=2
        )
        assert message in " ".join(done.stderr.split())


def test_every_command_has_help_and_is_in_the_reference():
    import click

    from adaptkit.cli.app import app

    reference = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()

    def walk(command, path):
        assert command.help, path
        assert f"# adaptkit {path}".strip() in reference, path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (path, parameter.name)
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                walk(command.get_command(context, name), f"{path} {name}".strip())

    walk(app, "")


def test_what_other_tools_call_a_command_leads_to_one_that_there_is():
    assert not CALLED.keys() & COMMANDS.keys()
    assert set(CALLED.values()) <= COMMANDS.keys()
