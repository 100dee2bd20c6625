"""adaptkit.training.runs: a run is resumed from its last whole checkpoint, by one process, as it began."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from adaptkit.errors import Conflict, Refused, TrainingError
from adaptkit.training.runs import Run
from adaptkit.training.settings.config import TrainConfig

CONFIG = TrainConfig(base="base", data=("a.jsonl",), name="naval", steps=8)


@pytest.fixture
def run(tmp_path):
    made = Run("naval", tmp_path / "training" / "naval")
    made.begin(CONFIG, fresh=False)
    return made


def checkpoint(run, step, text=None):
    folder = run.folder / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    state = {"global_step": step, "log_history": [{"loss": 9.0 / step, "step": step}]}
    (folder / "trainer_state.json").write_text(json.dumps(state) if text is None else text)
    return folder


def test_the_last_whole_checkpoint_is_the_one_to_go_on_from(run):
    assert run.last_checkpoint() is None
    checkpoint(run, 2)
    good = checkpoint(run, 4)
    checkpoint(run, 6, '{"global_step": 6, "log_')  # the disk was full
    (run.folder / "checkpoints" / "checkpoint-8").mkdir()
    found = run.last_checkpoint()
    assert (found.folder, found.step, found.loss) == (good, 4, 2.25)


def test_a_run_goes_on_only_as_it_began(run):
    with pytest.raises(TrainingError, match="there is no run of naval to resume"):
        run.to_resume({})
    checkpoint(run, 4)
    config, found = run.to_resume({"steps": 8, "data": ("a.jsonl",)})
    assert config == CONFIG.changed()
    assert found.step == 4
    with pytest.raises(Refused, match="with another lr[\\s\\S]*--fresh"):
        run.to_resume({"lr": 0.1})


def test_an_interrupted_run_is_not_overwritten_unless_told(run):
    checkpoint(run, 4)
    with pytest.raises(Refused, match="stands at step 4: a new run would overwrite it"):
        run.begin(CONFIG, fresh=False)
    run.begin(CONFIG, fresh=True)
    assert run.last_checkpoint() is None


def test_other_data_is_refused(run):
    run.record_data({"a.jsonl": "sha256:1"})
    run.record_data({"a.jsonl": "sha256:1"})
    with pytest.raises(Refused, match="the data changed since it began: a.jsonl"):
        run.record_data({"a.jsonl": "sha256:2"})


def test_one_name_is_trained_by_one_process_at_a_time(run):
    code = (
        "import sys; from pathlib import Path; from adaptkit.training.runs import Run\n"
        "with Run('naval', Path(sys.argv[1])).alone(): print('in')"
    )
    command = [sys.executable, "-c", code, str(run.folder)]
    with run.alone():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "naval is being trained by another process" in done.stderr
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "in\n"
    with pytest.raises(Conflict), run.alone(), run.alone():
        pass
