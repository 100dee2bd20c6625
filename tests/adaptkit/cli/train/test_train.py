"""`adaptkit train`, `eval`, `generate` and `show --recipe` as a person types them."""

from __future__ import annotations

import json
import shlex

import command_line
import pytest


@pytest.fixture(scope="module")
def trained(tmp_path_factory, speaker):
    """A folder with a base, rows and a workspace, in which naval was trained from a train.yaml."""
    folder = tmp_path_factory.mktemp("ship")
    rows = [{"prompt": f"hull {v}%?", "completion": f"Hull {v}."} for v in range(10, 50)]
    (folder / "naval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "train.yaml").write_text(
        f"base_model: {speaker}\ndatasets: [{{path: naval.jsonl}}]\nlora_r: 2\nsteps: 20\n"
        "micro_batch_size: 4\nsequence_len: 48\nlearning_rate: 0.001\n"
    )
    done = run(folder, "train", "--config", "train.yaml", "--name", "naval", "--steps", "3")
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def ship(trained):
    return trained[0]


def run(folder, *words, given=""):
    return command_line.run(["--home", folder / "home", *words], folder, given)


def test_progress_goes_to_stderr_and_the_result_to_stdout(trained):
    done = trained[1]
    assert "step 3/3  loss" in done.stderr
    assert "rows/s" in done.stderr
    assert done.stdout.startswith("naval@1  sha256:")
    assert "naval.jsonl (prompt/completion, 40 rows)" in done.stdout
    assert "step " not in done.stdout.splitlines()[0]


def test_the_recipe_is_the_line_that_trained_it(ship, speaker):
    line = run(ship, "show", "naval", "--recipe").stdout
    words = shlex.split(line)
    assert words[:2] == ["adaptkit", "train"]
    assert dict(zip(words[2::2], words[3::2], strict=True)) == {
        "--base": speaker.name,
        "--data": "naval.jsonl",
        "--name": "naval",
        "--rank": "2",
        "--steps": "3",
        "--batch": "4",
        "--length": "48",
        "--lr": "0.001",
    }
    again = run(ship, *[str(speaker) if word == speaker.name else word for word in words[1:]])
    assert "naval@1" in again.stdout
    assert "unchanged" in again.stdout
    shown = run(ship, "show", "naval").stdout
    assert "data      naval.jsonl  40 rows  sha256:" in shown


def test_eval_prints_a_matrix_and_keeps_the_figures(ship, speaker):
    how = ["--suite", "naval.jsonl", "--base", speaker, "--baseline", "base"]
    done = run(ship, "eval", "naval", *how, "--json", "--png", "matrix.png")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["suites"]["naval"]["rows"] == 40
    assert set(found["adapters"]) == {"base", "naval@1"}
    assert (ship / "matrix.png").is_file()
    assert "metric    naval.exact" in run(ship, "show", "naval").stdout
    assert "naval (exact)" in run(ship, "eval", "naval", *how, "--dry-run").stdout


def test_generate_answers_and_compares(ship, speaker):
    how = ["--base", speaker, "--prompt", "hull 20%?", "--new-tokens", "5"]
    assert run(ship, "generate", "naval", *how).returncode == 0
    both = json.loads(run(ship, "generate", "--compare", "base,naval", *how, "--json").stdout)
    assert set(both) == {"base", "naval"}
    assert "Missing argument 'REF'" in run(ship, "generate", *how).stderr


def test_a_conversation_as_json_is_one_value_at_its_end(ship, speaker):
    how = ["--base", speaker, "--new-tokens", "5", "--json"]
    done = run(ship, "chat", "naval", *how, given="hull 20%?\nshields 9%?\n\nnot read")
    found = json.loads(done.stdout)
    assert found["adapter"] == "naval"
    assert [turn["user"] for turn in found["turns"]] == ["hull 20%?", "shields 9%?"]
    alone = json.loads(run(ship, "generate", "naval", *how, "--prompt", "hull 20%?").stdout)
    assert found["turns"][0]["assistant"] == alone["naval"]


def test_a_mistake_is_named_with_what_to_type(ship):
    done = run(ship, "train", "--name", "x", "--base", "none", "--data", "naval.jsonl")
    assert done.returncode == 1
    assert "no base called 'none'" in done.stderr
    done = run(ship, "train", "--data", "naval.jsonl")
    assert done.returncode == 2
    assert "Missing option '--name'" in done.stderr
