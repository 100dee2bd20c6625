"""adaptkit.extend.training.process: a worker's steps and result, its failure, and Ctrl-C passed on to it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from adaptkit.errors import TrainingError
from adaptkit.extend.training import TrainJob, TrainOptions
from adaptkit.extend.training.process import run_worker

WORKER = """
import json, pathlib, signal, sys
file = pathlib.Path(sys.argv[1])
job = json.loads(file.read_text())
asked = []
signal.signal(signal.SIGINT, lambda *_: asked.append(1))
def step(n):
    # a progress bar ends no line
    print(f"{n}/2 |##  |", 'adaptkit-step {"step": %d, "steps": 2, "loss": 1.5, "lr": 0.1}' % n, flush=True)
"""
RESULT = """
(file.parent / "result.json").write_text(json.dumps({
    "adapter": str(file.parent / "adapter"), "steps": 2, "losses": [[1, 1.5]], "moved": 1, "tensors": 1,
    "interrupted": bool(asked)}))
"""


@pytest.fixture
def job(tmp_path):
    return TrainJob(
        base=Path("base"),
        objective="sft",
        peft={},
        rows=Path("rows.arrow"),
        folder=tmp_path,
        options=TrainOptions(seed=0),
    )


def run(job, code, report=lambda _: None):
    return run_worker([sys.executable, "-c", WORKER + code], job, report, fix="try again")


def test_steps_are_reported_even_behind_a_progress_bar_and_the_result_is_read(job):
    steps = []
    result = run(job, "step(1); step(2)" + RESULT, steps.append)
    assert [(step.step, step.loss) for step in steps] == [(1, 1.5), (2, 1.5)]
    assert (result.losses, result.interrupted) == (((1, 1.5),), False)


def test_a_step_that_was_cut_off_is_passed_over(job):
    steps = []
    run(
        job,
        """print('adaptkit-step {"step": 1,'); print('adaptkit-step {}'); step(2)""" + RESULT,
        steps.append,
    )
    assert [step.step for step in steps] == [2]


def test_a_worker_that_fails_is_shown_with_its_last_line(job):
    with pytest.raises(TrainingError) as caught:
        run(job, "print('no room'); sys.exit(3)")
    assert (caught.value.why, caught.value.fix) == ("no room", "try again")
    assert "ended with 3" in caught.value.what


def test_ctrl_c_reaches_the_worker_once_and_it_ends_with_a_result(job):
    waits = "step(1)\nwhile not asked: signal.sigtimedwait([], 0.01)\nassert len(asked) == 1"
    before = signal.getsignal(signal.SIGINT)
    result = run(job, waits + RESULT, lambda _: os.kill(os.getpid(), signal.SIGINT))
    assert result.interrupted
    assert signal.getsignal(signal.SIGINT) is before


def test_a_worker_that_was_interrupted_before_it_began_is_no_failure(job):
    dies = "signal.signal(signal.SIGINT, signal.SIG_DFL); step(1); signal.pause()"
    with pytest.raises(KeyboardInterrupt):
        run(job, dies, lambda _: os.kill(os.getpid(), signal.SIGINT))


def test_a_second_ctrl_c_ends_a_worker_that_does_not_listen_and_all_that_it_started(job, tmp_path):
    child = (
        "import subprocess as s; c = s.Popen(['sleep', '60']); print(c.pid, file=open('PIDS', 'w'))"
    )
    deaf = (
        child.replace("PIDS", str(tmp_path / "pid")) + "\nstep(1); step(2)\nwhile 1: signal.pause()"
    )
    with pytest.raises(KeyboardInterrupt):
        run(job, deaf, lambda _: os.kill(os.getpid(), signal.SIGINT))
    left = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    end = time.monotonic() + 10  # a killed process is gone a moment after the signal
    while _runs(left) and time.monotonic() < end:
        time.sleep(0.01)
    assert not _runs(left)


def _runs(stat):
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
