"""adaptkit calibrate, distil and merge with --weigh and --distil, as typed."""

from __future__ import annotations

import json

import click
import pytest
import talking
import tiny
from click.testing import CliRunner
from documented import check

from adaptkit.cli.app import app
from adaptkit.cli.merge.distil import parents_data


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    return talking.save_base(tmp_path_factory.mktemp("talker") / "base")


@pytest.fixture
def typed(talker, tmp_path, monkeypatch):
    """Runs a command line in a folder with a base, two registered adapters and their prompts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ship").symlink_to(talker)

    def run(line, code=0):
        done = CliRunner().invoke(app, ["--home", "home", *line.split()])
        assert done.exit_code == code, (done.output, done.exception)
        return done

    for seed, (name, first) in enumerate((("naval", 0), ("medic", 30))):
        tiny.save_adapter(talker, tmp_path / name, seed=seed, r=4, target_modules="all-linear")
        talking.save_prompts(tmp_path / f"{name}.jsonl", first, 10)
        run(f"add ./{name} --name {name} --base ./ship")
    return run


def test_calibrate_merge_and_distil_as_typed(typed):
    done = typed("calibrate naval --base ./ship --data naval.jsonl --rows 4")
    assert done.stdout.startswith("naval@1  14 modules in 8 moments, 4 rows, ")
    found = json.loads(typed("calibrate medic --base ./ship --data medic.jsonl --json").stdout)
    assert (found["ref"], found["rows"], found["unmeasured"]) == ("medic@1", 10, [])
    typed("merge naval medic --strategy regmean --rank 4 --name bridge")
    done = typed(
        "distil bridge --base ./ship --data naval=naval.jsonl --data medic=medic.jsonl --steps 2"
    )
    assert "bridge@2  sha256:" in done.stdout
    assert "from bridge@1: 2 steps, kept step" in done.stdout
    assert "  medic: held-out prompts word for word " in done.stdout


def test_merge_and_distil_in_one_command(typed):
    line = "merge naval medic --rank 4 --name both --base ./ship --json"
    done = json.loads(typed(f"{line} --distil naval=naval.jsonl --distil medic=medic.jsonl").stdout)
    assert (done["version"], done["distilled"]["version"]) == (1, 2)
    assert set(done["distilled"]["held_out"]) == {"naval", "medic"}
    check("merge", done)
    refused = typed("merge naval medic --name both --distil naval=naval.jsonl", code=2)
    assert "--distil needs the base's folder and a name: --base DIR --name NAME" in refused.output


def test_a_merge_that_is_weighed_first_has_its_documented_form(typed, tmp_path):
    for name, first in (("naval", 0), ("medic", 30)):
        talking.save_prompts(tmp_path / f"{name}.jsonl", first, 4, answer="w1")
    line = "merge naval medic --rank 4 --base ./ship --name both --json"
    done = json.loads(typed(f"{line} --weigh naval=naval.jsonl --weigh medic=medic.jsonl").stdout)
    check("merge", done)
    assert set(done["weighed"]["held_out"]) == {"naval", "medic"}
    assert json.loads(typed("show both --json").stdout)["digest"] == done["digest"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--weigh naval=naval.jsonl", "--weigh needs the base's folder: --base DIR"),
        (
            "--weigh naval=naval.jsonl --base ./ship --normalize",
            "--weigh chooses the weights: leave out --normalize",
        ),
        (
            "--weigh naval=naval.jsonl --base ./ship --into bake full",
            "--weigh and --into bake exclude each other: merge, then bake",
        ),
    ],
)
def test_what_has_no_meaning_beside_weigh_is_a_usage_error(typed, options, message):
    refused = typed(f"merge naval medic --name both {options}", code=2)
    assert message in " ".join(refused.output.split())


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["naval"], "'naval' is not PARENT=FILE"),
        (["=x"], "'=x' is not PARENT=FILE"),
    ],
)
def test_parents_and_files_that_are_no_pairs_are_usage_errors(texts, message):
    with pytest.raises(click.BadParameter, match=message):
        parents_data(texts)
