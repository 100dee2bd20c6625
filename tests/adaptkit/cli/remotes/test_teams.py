"""The commands of names, lineage and upkeep from the shell: forms, exit codes, messages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import command_line
import pytest
import tiny
from command_line import checked


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, lora_pair):
    folder = tmp_path_factory.mktemp("prepared")
    run(folder, "init")
    run(folder, "add", lora_pair[0], "--name", "naval", "--alias", "prod", "-m", "terse hull")
    again = tiny.edit_config(Path(shutil.copytree(lora_pair[0], folder / "again")), lora_alpha=3)
    run(folder, "add", again, "--name", "naval")
    run(folder, "add", lora_pair[1], "--name", "fleet/medic")
    run(folder, "merge", "naval=0.7", "fleet/medic=0.3", "--name", "bridge")
    return folder


@pytest.fixture
def home(prepared, tmp_path):
    shutil.copytree(prepared / ".adaptkit", tmp_path / ".adaptkit")
    return tmp_path


def run(folder, *arguments, code=0, **environment):
    environment = {"ADAPTKIT_HOME": str(folder / ".adaptkit")} | environment
    return checked(command_line.run(arguments, folder, **environment), code)


def as_json(folder, *arguments, **environment):
    return json.loads(run(folder, *arguments, "--json", **environment).stdout)


def test_names_move_and_lead_on(home):
    assert as_json(home, "alias", "naval", "prod", "2", "--expect", "1")["old"] == 1
    assert (
        "points at 2, not at 1"
        in run(home, "alias", "naval", "prod", "1", "--expect", "1", code=1).stderr
    )
    assert as_json(home, "rollback", "naval", "prod")["new"] == 1
    run(home, "alias", "naval", "canary", "2")
    run(home, "alias", "naval", "canary", "--drop")
    assert (
        "give the VERSION to point at, such as adaptkit alias naval canary 2, or --drop"
        in run(home, "alias", "naval", "canary", code=2).stderr
    )
    assert as_json(home, "rename", "naval", "marine") == {"old": "naval", "new": "marine"}
    assert as_json(home, "show", "naval@prod")["name"] == "marine"
    assert "that name is taken" in run(home, "rename", "naval", "bridge", code=1).stderr
    assert "was called naval" in run(home, "log", "marine").stdout
    events = as_json(home, "log", "marine", "--events", "--limit", "2")
    assert [event["verb"] for event in events] == ["renamed", "alias-moved"]
    assert "give a NAME, or --events" in run(home, "log", code=2).stderr
    assert run(home, "log", "--events").stdout.count("\n") > 5


def test_a_protected_alias_asks_for_yes(home):
    (home / ".adaptkit" / "config.toml").write_text('protected = ["prod"]\n')
    refused = run(home, "alias", "naval", "prod", "2", code=1).stderr
    assert "adaptkit alias naval prod 2 --yes" in refused
    run(home, "alias", "naval", "prod", "2", "--yes")
    assert run(home, "list", ADAPTKIT_DISABLE_PLUGINS="builtin-protected").stdout


def test_versions_are_searched_for(home):
    run(
        home,
        "note",
        "naval@1",
        "--metric",
        "accuracy=0.93",
        "--tag",
        "sea",
        "--describe",
        "short answers",
    )
    for arguments in (
        ["hull"],
        ["--metric", "accuracy>=0.9"],
        ["--tag", "sea"],
        ["TERSE", "short"],
    ):
        assert [v["version"] for v in as_json(home, "list", "--all", *arguments)] == [1]
    assert [v["name"] for v in as_json(home, "list", "--team", "fleet")] == ["fleet/medic"]
    assert [v["name"] for v in as_json(home, "list", "--rank", "4")] == ["naval"]
    assert "is not a condition" in run(home, "list", "--metric", "accuracy", code=1).stderr
    assert "no adapter matches" in run(home, "list", "nothing").stderr


def test_lineage_is_a_tree_a_flowchart_and_json(home):
    tree = run(home, "lineage", "bridge").stdout.splitlines()
    assert tree[0].startswith("bridge@1  sha256:")
    assert tree[1].startswith("├─ 0.7 × naval@2")
    assert tree[2].startswith("└─ 0.3 × fleet/medic@1")
    assert run(home, "lineage", "bridge", "--mermaid").stdout.startswith("flowchart BT\n")
    assert len(as_json(home, "lineage", "bridge")["nodes"]) == 3
    assert run(home, "log", "bridge", "--graph").stdout.splitlines()[1] == "|\\"


def test_fsck_and_gc_say_what_they_found_and_did(home, tmp_path):
    assert "all sound" in run(home, "fsck").stdout
    run(home, "push", "naval@1", (tmp_path / "team").as_uri())
    blob = next(
        path
        for path in (home / ".adaptkit/store/objects").glob("??/*")
        if path.stat().st_size > 3000
    )
    shutil.rmtree(home / ".adaptkit/store/objects")
    done = run(home, "fsck", "--repair", "--offline", code=1)
    assert "repaired" in done.stdout
    assert "never pushed anywhere" in done.stdout
    found = as_json_failing(home, "fsck")
    assert (found["sound"], {f["kind"] for f in found["findings"]}) == (False, {"lost"})
    assert blob.name
    run(home, "rm", "bridge", "--yes")
    dry = as_json(home, "gc", "--grace", "0", "--trash", "0", "--dry-run")
    assert (dry["purged"], dry["dry_run"]) == (["bridge@1"], True)
    done = run(home, "gc", "--grace", "0", "--trash", "0", "--yes")
    assert done.stdout.startswith("bridge@1 forgotten\n")
    assert "--grace is 'soon'" in run(home, "gc", "--grace", "soon", code=1).stderr


def as_json_failing(folder, *arguments):
    return json.loads(run(folder, *arguments, "--json", code=1).stdout)


def test_info_counts_and_shows_quotas_and_no_password(home, postgres):
    (home / ".adaptkit" / "config.toml").write_text('[quotas]\nstore = "1 kB"\n')
    shown = run(home, "info").stdout
    assert "exceeded" in shown
    assert as_json(home, "info")["counts"]["versions"] == 4
    url = postgres.database().replace("postgres@", "postgres:hunter2@")
    shown = run(home, "info", ADAPTKIT_REGISTRY_URL=url).stdout
    assert "postgres:***@" in shown
    assert "hunter2" not in shown


def test_a_registry_moves_to_postgresql_from_the_shell(home, postgres):
    url = postgres.database()
    run(home, "registry", "export", "all.jsonl")
    assert (
        as_json(home, "registry", "import", "all.jsonl", ADAPTKIT_REGISTRY_URL=url)["versions"] == 4
    )
    assert (
        "nothing new"
        in run(home, "registry", "import", "all.jsonl", ADAPTKIT_REGISTRY_URL=url).stdout
    )
    assert [v["name"] for v in as_json(home, "list", ADAPTKIT_REGISTRY_URL=url)] == [
        "bridge",
        "fleet/medic",
        "naval",
    ]
    run(home, "path", "bridge", ADAPTKIT_REGISTRY_URL=url)
    assert "cannot import registry.db" in run(
        home, "registry", "import", ".adaptkit/registry.db", code=1
    ).stderr.replace(str(home) + "/", "").replace(".adaptkit/", "")
