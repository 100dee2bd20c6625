"""The `unsloth` trainer: refused in plain words where it is not; for real where ADAPTKIT_UNSLOTH_PYTHON names its Python."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from adaptkit.errors import TrainingError
from adaptkit_plugins.trainers.unsloth import Unsloth

PYTHON = os.environ.get("ADAPTKIT_UNSLOTH_PYTHON", "")
QUICK = {"steps": 4, "batch": 4, "length": 48, "lr": 1e-2, "rank": 2, "trainer": "unsloth"}


@pytest.fixture
def naval(tmp_path):
    path = tmp_path / "naval.jsonl"
    rows = [{"prompt": f"hull {v}%?", "completion": f"Hull {v}."} for v in range(10, 50)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "no Python of one is given[\\s\\S]*--trainer-python"),
        ({"trainer_python": sys.executable}, "has no unsloth[\\s\\S]*pip install unsloth"),
        ({"trainer_python": "/no/such/python"}, "cannot start /no/such/python"),
        ({"trainer_python": sys.executable, "method": "loha"}, "it trains LoRA from its own start"),
        (
            {"trainer_python": sys.executable, "dora": True},
            "adaptkit does not pass use dora on to it",
        ),
        (
            {"trainer_python": sys.executable, "packing": True},
            "does not pass packing on to it[\\s\\S]*leave it out",
        ),
    ],
)
def test_where_unsloth_is_not_the_error_says_what_to_type(more, message, workspace, speaker, naval):
    with pytest.raises(TrainingError, match=message):
        workspace.train("naval", base=speaker, data=naval, **QUICK | more)


def test_evaluation_rows_are_refused_and_not_passed_over(workspace, speaker, naval, monkeypatch):
    monkeypatch.setattr(Unsloth, "check", lambda *_: None)  # as where its Python has unsloth
    with pytest.raises(TrainingError, match="adaptkit does not pass evaluation rows on to it"):
        workspace.train("naval", base=speaker, data=naval, eval_split=0.5, **QUICK)


NEEDS_UNSLOTH = pytest.mark.skipif(
    not PYTHON, reason="ADAPTKIT_UNSLOTH_PYTHON names no Python of an environment with unsloth"
)


@NEEDS_UNSLOTH
def test_unsloth_trains_in_its_own_environment(workspace, speaker, naval):
    steps = []
    trained = workspace.train(
        "naval", base=speaker, data=naval, trainer_python=PYTHON, report=steps.append, **QUICK
    )
    assert trained.version.method == "lora"
    assert trained.facts["versions"]["unsloth"]
    assert [step.step for step in steps] == [1, 2, 3, 4]


@NEEDS_UNSLOTH
def test_an_interrupted_unsloth_run_goes_on_where_it_stopped(workspace, speaker, naval):
    def stop(step):
        if step.step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    how = QUICK | {"steps": 12, "trainer_python": PYTHON}
    with pytest.raises(KeyboardInterrupt):
        workspace.train("naval", base=speaker, data=naval, report=stop, **how)
    assert "go on with: adaptkit train --name naval --resume" in workspace.noticed[-1]
    steps = []
    resumed = workspace.train("naval", resume=True, report=steps.append)
    assert 4 < steps[0].step <= 12
    assert resumed.facts["steps"] == 12
