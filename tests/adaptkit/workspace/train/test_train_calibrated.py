"""What `train` measures at its end: moments on its own rows, which travel, and without which nothing fails."""

from __future__ import annotations

import json

import pytest

from adaptkit import Workspace
from adaptkit.workspace.context.moments import kept_moments

QUICK = {"steps": 2, "batch": 4, "length": 48, "lr": 1e-2, "rank": 2}

pytestmark = [
    # the libraries remark about themselves: nothing a user can do about
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def rows(path, word):
    made = [{"prompt": f"{word} {v}?", "completion": f"{word} {v}."} for v in range(20, 44)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def test_a_training_ends_with_moments_that_a_merge_uses_and_a_push_carries(
    workspace, speaker, tmp_path
):
    for name in ("naval", "medic"):
        trained = workspace.train(
            name, base=speaker, data=rows(tmp_path / f"{name}.jsonl", name), **QUICK
        )
        assert trained.calibrated.rows == 16
        assert trained.calibrated.modules > 0
        assert trained.to_json()["calibrated"]["digest"] == trained.version.digest
    merged = workspace.merge(["naval", "medic"], name="both", strategy="regmean")
    assert merged.version.ref == "both@1"
    assert len(merged.recipe.moments) == 2
    workspace.set_remote("team", f"file://{tmp_path}/team")
    workspace.push("naval", "team")
    with Workspace.init(tmp_path / "elsewhere", notify=lambda _: None) as other:
        pulled = other.pull(f"file://{tmp_path}/team/naval")
        digest = pulled.version.digest
        there = [path.name for path in kept_moments(other).of(digest)]
    assert there == [path.name for path in kept_moments(workspace).of(digest)]
    assert len(there) == 1


def test_the_same_training_measures_the_same_and_a_second_run_measures_nothing(
    workspace, speaker, tmp_path
):
    data = rows(tmp_path / "naval.jsonl", "naval")
    first = workspace.train("naval", base=speaker, data=data, **QUICK)
    before = [path.name for path in kept_moments(workspace).of(first.version.digest)]
    again = workspace.train("naval", base=speaker, data=data, **QUICK)
    assert again.calibrated is None
    assert [path.name for path in kept_moments(workspace).of(first.version.digest)] == before
    with Workspace.init(tmp_path / "elsewhere", notify=lambda _: None) as other:
        fresh = other.train("naval", base=speaker, data=data, **QUICK)
        assert fresh.version.digest == first.version.digest
        assert [path.name for path in kept_moments(other).of(fresh.version.digest)] == before


def test_no_calibrate_leaves_them_out(workspace, speaker, tmp_path):
    data = rows(tmp_path / "naval.jsonl", "naval")
    trained = workspace.train("naval", base=speaker, data=data, calibrate=False, **QUICK)
    assert trained.calibrated is None
    assert kept_moments(workspace).of(trained.version.digest) == []


def test_what_cannot_be_measured_is_registered_all_the_same_and_named(speaker, tmp_path):
    said = []
    with Workspace.init(tmp_path / "home", notify=said.append) as ws:
        trained = ws.train(
            "naval",
            base=speaker,
            data=rows(tmp_path / "naval.jsonl", "naval"),
            method="prompt_tuning",
            set=["num_virtual_tokens=4"],
            **{key: value for key, value in QUICK.items() if key != "rank"},
        )
        assert trained.version.ref == "naval@1"
        assert trained.calibrated is None
    assert any(text.startswith("naval@1 has no moments: ") for text in said)
