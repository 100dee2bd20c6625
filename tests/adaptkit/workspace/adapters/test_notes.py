"""Who did what, notes that are taken away, and names that differ by case."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from command_line import Shell

from adaptkit import Workspace
from adaptkit.errors import BaseMismatch, NotFound, Refused
from adaptkit.workspace.context.home import Home


@pytest.fixture
def workspace(tmp_path, lora_pair):
    with Workspace.open(tmp_path / ".adaptkit", notify=lambda _: None) as ws:
        ws.add(lora_pair[0], "naval")
        yield ws


def test_tags_and_metrics_are_taken_away_and_unknown_ones_are_refused(workspace):
    workspace.note("naval", tags=["sea", "draft"], metrics={"accuracy": 0.9, "loss": 1.0})
    noted = workspace.note("naval", without_tags=["draft"], without_metrics=["loss"])
    assert (noted.tags, dict(noted.metrics)) == (("sea",), {"accuracy": 0.9})
    with pytest.raises(NotFound, match="no tag of this version called 'darft': known are sea"):
        workspace.note("naval", tags=["kept"], without_tags=["darft"])
    with pytest.raises(NotFound, match="no metric of this version called 'f1': known is accuracy"):
        workspace.note("naval", without_metrics=["f1"])
    assert workspace.version("naval").tags == ("sea",)
    shell = Shell(workspace.home.path.parent)
    noted = shell.json("note", "naval", "--remove-tag", "sea", "--remove-metric", "accuracy")
    assert (noted["tags"], noted["metrics"]) == ([], {})


def test_a_name_that_differs_by_case_only_is_refused_and_leaves_nothing(workspace, lora_pair):
    before = sorted(workspace.store.root.rglob("*"))
    with pytest.raises(Refused, match="'Naval' cannot name an adapter: 'naval' differs") as error:
        workspace.add(lora_pair[1], "Naval")
    assert error.value.fix == "write naval, or choose another name"
    assert sorted(workspace.store.root.rglob("*")) == before
    workspace.add(lora_pair[1], "medic")
    with pytest.raises(Refused, match="'NAVAL' cannot name an adapter"):
        workspace.rename("medic", "NAVAL")
    assert workspace.rename("naval", "Naval") == "Naval"
    with pytest.raises(Refused, match="'NAVAL' cannot name an adapter"):
        workspace.rename("medic", "NAVAL")


def claims(folder, source, base):
    """The adapter in `source`, which says that it is for another base."""
    shutil.copytree(source, folder)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text()) | {"base_model_name_or_path": base}
    file.write_text(json.dumps(config))
    return folder


def test_an_add_that_is_refused_leaves_no_orphans_and_advises_to_verify(
    tmp_path, lora_pair, tiny_llama
):
    with Workspace.open(tmp_path / "home", notify=lambda _: None) as workspace:
        workspace.add(claims(tmp_path / "one", lora_pair[0], "fleet/ship"), "naval")
        boat = claims(tmp_path / "two", lora_pair[1], "fleet/boat")
        with pytest.raises(Refused, match="'naval' holds adapters of another base") as error:
            workspace.add(boat, "naval")
        assert error.value.fix == (
            "adaptkit base verify naval@1 --base DIR; --base DIR measures the base of this one; "
            "choose another name, or --new-version to change what this one is"
        )
        assert workspace.fsck().findings == ()
        workspace.add(boat, "boat")
        with pytest.raises(BaseMismatch) as error:
            workspace.merge(["naval", "boat"], name="bridge")
        assert error.value.fix.startswith(
            "adaptkit base verify naval --base DIR; adaptkit base verify boat --base DIR; --force"
        )
        with pytest.raises(BaseMismatch) as error:
            workspace.bake("naval", tiny_llama, tmp_path / "out")
        assert error.value.fix.startswith(f"adaptkit base verify naval --base {tiny_llama}; ")


def test_fsck_says_what_there_is_to_know_of_and_blames_no_kill(workspace):
    blob = workspace.store.root / "objects" / "ab" / ("ab" * 32)
    blob.parent.mkdir(exist_ok=True)
    blob.write_bytes(b"")
    text = Shell(workspace.home.path.parent).run("fsck").stdout
    assert "no version has it: gc takes it" in text
    assert text.endswith("1 artifact, 0 placements: nothing is damaged, 1 to know of\n")


def test_the_author_is_from_the_configuration_else_git_else_the_user(tmp_path):
    home = Home(tmp_path)
    environment = {"USER": "root", "ADAPTKIT_AUTHOR": ""}
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "config", "user.name", "Ada of Git"], cwd=tmp_path, check=True)
    alone = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    Workspace.init(tmp_path).close()
    script = "import sys; from adaptkit import Workspace; print(Workspace.open(sys.argv[1]).config.author)"

    def author(**variables):
        return subprocess.run(
            [sys.executable, "-c", script, home.path / ".adaptkit"],
            cwd=tmp_path,
            env=os.environ | environment | alone | variables,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert author() == "Ada of Git"
    assert author(PATH="/nowhere") == "root"
    (home.path / ".adaptkit" / "config.toml").write_text('author = "bo"\n')
    assert author() == "bo"


def test_the_log_of_events_has_no_raw_json(workspace, lora_pair):
    workspace.add(lora_pair[0], "naval", alias="prod")
    workspace.note("naval", message="calm", tags=["sea"], metrics={"accuracy": 0.93})
    workspace.rename("naval", "navy")
    text = Shell(workspace.home.path.parent).run("log", "--events").stdout
    assert not set(text) & set('{}[]"')
    assert "naval@prod\tnothing → 1" in text
    assert "message calm, accuracy = 0.93, tags sea" in text
    assert "naval → navy" in text
