"""What the pages tell people to type works, word for word."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from command_line import typed, typed_in_processes

from adaptkit import Workspace

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "docs/quickstart.md"]
TYPED = pytest.mark.parametrize(
    "typed", [typed, pytest.param(typed_in_processes, marks=pytest.mark.soak)]
)


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


READERS = {
    "python": lambda text: compile(text, "a page", "exec"),
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "json": json.loads,
}
SHELLS = ("sh", "bash", "console")


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_block_of_a_page_can_be_read_by_what_it_is_for(page):
    for language, read in READERS.items():
        for text in blocks(page, language):
            read(text)
    lines = "\n".join(text for language in SHELLS for text in blocks(page, language))
    done = subprocess.run(["bash", "-n"], input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def project(tmp_path, lora_pair, tiny_llama, monkeypatch):
    """The folder that the pages speak of: a base and two trained adapters."""
    shutil.copytree(lora_pair[0], tmp_path / "out" / "naval")
    shutil.copytree(lora_pair[1], tmp_path / "out" / "medic")
    shutil.copytree(tiny_llama, tmp_path / "models" / "ship")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def empty_project(tmp_path, monkeypatch):
    """A folder with nothing in it: what the pages need, they make."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.long
@TYPED
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_the_page_work_word_for_word(page, typed, empty_project):
    project = empty_project
    script = "\n".join(blocks(page, "console"))
    script = script.replace(
        "/mnt/team", f"{project}/mnt/team"
    )  # the one thing a test machine does not have
    if "naval@3" in script:  # three versions, so that there is something to keep order in
        script = script.replace("adaptkit alias naval prod 3 --expect 2", _more_versions(), 1)
    done = typed(script, project)
    assert done.returncode == 0, done.stderr
    with Workspace.open() as ws:
        assert ws.version("bridge").method == "lora"
        assert ws.verify().damaged == ()
        for code in blocks(page, "python"):
            from transformers import LlamaForCausalLM

            names = {"base_model": LlamaForCausalLM.from_pretrained("fleet/ship")}
            ws.note("bridge", message="from here on in Python")
            exec(compile(code, page, "exec"), names)
            assert names["model"].peft_config


@TYPED
def test_the_commands_of_the_configuration_page_work_word_for_word(typed, project):
    Workspace.init(project, notify=lambda _: None).close()
    script = "\n".join(blocks("docs/configuration.md", "console"))
    done = typed(script, project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("prod\nrelease\n")
    with Workspace.open() as ws:
        assert (ws.config.author, ws.config.protected) == ("ada", ("prod", "release"))
        assert ws.config.quotas == {"store": "200 GB"}
        assert ws.config.reviews.enable == ()


@TYPED
def test_the_project_of_the_sharing_page_is_locked_and_synced(typed, project):
    with Workspace.init(project, notify=lambda _: None) as ws:
        for name in ("naval", "medic", "bridge", "polite"):
            ws.add("out/medic" if name == "medic" else "out/naval", name, alias="prod")
            ws.push(f"{name}@prod", f"file://{project}/mnt/team/{name}")
    (toml,) = blocks("docs/sharing.md", "toml")
    (project / "adaptkit.toml").write_text(toml.replace("/mnt/team", f"{project}/mnt/team"))
    script = "\n".join(blocks("docs/sharing.md", "console"))
    done = typed(script, project)
    assert done.returncode == 0, done.stderr
    assert (project / "adaptkit.lock").is_file()
    assert "everything is up to date" in done.stderr


def texts_with_commands():
    """The pages, and the modules whose messages and help name commands."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    modules = (
        path
        for folder in ("adaptkit", "plugins", "registry_db", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
    )
    return [*pages, *modules]


def what_is_wrong(context, words):
    """Why these words after `adaptkit` are no command; None where they are one, or prose."""
    command = context.command
    known = {"--home", "--help"}
    while isinstance(command, click.Group) and words and (word := words[0]).isidentifier():
        found = command.get_command(context, word)
        if found is None:
            break
        command, context, words = found, click.Context(found, context, word), words[1:]
    if isinstance(command, click.Group):
        return None
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    # what follows a lone -- is another program's
    ours = words[: words.index("--")] if "--" in words else words
    unknown = (word.partition("=")[0] for word in ours if re.match("--[a-z]", word))
    return next((f"{command.name} {word}" for word in unknown if word not in known), None)


def test_every_option_that_pages_and_messages_name_is_one_of_its_command():
    from adaptkit.cli.app import app

    context, wrong, seen = app.make_context("adaptkit", ["plugins"]), [], 0
    for path in texts_with_commands():
        text = path.read_text().replace("\\\n", " ")
        for written in re.findall(r"\badaptkit ([a-z-]+(?: [^\n`;|&#\"',:()]+)?)", text):
            seen += " --" in written
            if found := what_is_wrong(context, written.rstrip(".").split()):
                wrong.append(f"{path.relative_to(ROOT)}: {found}")
    assert not wrong
    assert seen > 250


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_every_command_of_a_page_exists(page):
    from adaptkit.cli.app import app

    known = set(app.list_commands(app.make_context("adaptkit", ["plugins"])))
    shown = "\n".join(blocks(f"docs/{page}", "(?:sh|console|bash)"))
    named = set(re.findall(r"^(?:\$ )?adaptkit ([a-z][a-z-]+)", shown, re.MULTILINE))
    assert named <= known


def test_every_environment_variable_is_on_the_page_of_the_configuration():
    read = {
        name
        for path in texts_with_commands()
        if path.suffix == ".py" and "examples" not in path.parts
        for name in re.findall(r"(?<!_)ADAPTKIT_[A-Z_]+", path.read_text())
    }
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert read == set(re.findall(r"\| `(ADAPTKIT_[A-Z_]+)`", page))


def _more_versions():
    """Shell that adds naval@2 and naval@3."""
    add = 'sed -i \'s/"lora_alpha": [0-9]*/"lora_alpha": {}/\' fleet/naval/adapter_config.json; adaptkit add fleet/naval --base fleet/ship --name naval'
    return "\n".join(
        [
            add.format(5),
            add.format(6),
            "adaptkit alias naval prod 2",
            "adaptkit alias naval prod 3 --expect 2",
        ]
    )


def test_the_readme_is_under_two_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 80


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target
