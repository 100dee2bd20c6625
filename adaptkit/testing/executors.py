"""What every executor must do: inherit `ExecutorConformance` and supply the fixture `opened`."""

from __future__ import annotations

import operator
import os
import signal
import threading
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from adaptkit.errors import BadRecipe, ExecutorError, TaskError
from adaptkit.extend.executor import LARGEST, Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend.executor import Executor

LONG = 60.0
"""Seconds that nothing here may take."""


class ExecutorConformance:
    """Results, errors, lost workers, cancelling, bounds, and nothing left running.

    `opened` is a function that opens the executor with at least two workers on this machine; each test closes what it
    opens. Workers must see this machine's temporary files.
    """

    @pytest.fixture
    def opened(self) -> Callable[[], Executor]:
        raise NotImplementedError

    @pytest.fixture
    def executor(self, opened: Callable[[], Executor]) -> Any:
        with opened() as executor:
            yield executor

    def test_results_are_those_of_the_function_in_this_process(self, executor: Executor) -> None:
        futures = [executor.submit(divmod, number, 7) for number in range(20)]
        assert [one.result(LONG) for one in futures] == [divmod(n, 7) for n in range(20)]

    def test_tasks_run_in_other_processes(self, executor: Executor) -> None:
        assert executor.submit(os.getpid).result(LONG) != os.getpid()

    def test_an_exception_of_the_standard_library_arrives_with_its_message(
        self, executor: Executor
    ) -> None:
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            executor.submit(operator.truediv, 1, 0).result(LONG)

    def test_an_error_of_adaptkit_arrives_with_its_three_texts(self, executor: Executor) -> None:
        with pytest.raises(BadRecipe) as caught:
            executor.submit(refuse, "--rank is 0").result(LONG)
        assert (caught.value.what, caught.value.why, caught.value.fix) == (
            "--rank is 0",
            "a rank is at least 1",
            "--rank 1",
        )

    def test_an_exception_that_cannot_travel_arrives_with_its_type_and_message(
        self, executor: Executor
    ) -> None:
        with pytest.raises(TaskError, match="a task failed with _Stuck: it holds a lock"):
            executor.submit(fail_unpicklably, "it holds a lock").result(LONG)

    def test_one_failure_leaves_the_others(self, executor: Executor) -> None:
        bad = executor.submit(operator.truediv, 1, 0)
        good = executor.submit(operator.truediv, 1, 4)
        assert good.result(LONG) == 0.25
        assert isinstance(bad.exception(LONG), ZeroDivisionError)

    def test_the_task_of_a_killed_worker_is_done_again(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        assert executor.capabilities.survives_lost_worker
        marks = tmp_path / "marks"
        marks.mkdir()
        others = [executor.submit(operator.add, number, 1) for number in range(4)]
        assert executor.submit(die_once, str(marks), 41).result(LONG) == 42
        assert [one.result(LONG) for one in others] == [1, 2, 3, 4]
        assert sorted(path.name for path in marks.iterdir()) == ["begun", "begun again"]

    def test_large_arguments_are_refused_where_they_are_submitted(self, executor: Executor) -> None:
        assert executor.submit(len, b"x" * (LARGEST // 2)).result(LONG) == LARGEST // 2
        with pytest.raises(ExecutorError, match="it names things and does not carry them"):
            executor.submit(len, b"x" * LARGEST)

    def test_a_function_without_a_name_is_refused(self, executor: Executor) -> None:
        with pytest.raises(ExecutorError, match="could not import it by its name"):
            executor.submit(lambda: 1)

    def test_a_worker_with_other_versions_refuses_the_task(self, executor: Executor) -> None:
        call = Call.of(divmod, (7, 2))
        other = tuple((name, "0.0.1" if name == "numpy" else v) for name, v in call.versions)
        outcome = executor.start(replace(call, versions=other)).result(LONG)
        assert isinstance(outcome.error, TaskError)
        assert "refuses the task" in outcome.error.what
        assert "numpy is" in outcome.error.why
        assert "and 0.0.1 where the task comes from" in outcome.error.why
        assert "pip install numpy==0.0.1" in outcome.error.fix

    def test_what_has_not_begun_can_be_cancelled(
        self, opened: Callable[[], Executor], tmp_path: Path
    ) -> None:
        with opened() as executor:
            gate = tmp_path / "gate"
            held = [
                executor.submit(wait_for, str(gate)) for _ in range(executor.capabilities.workers)
            ]
            waiting = executor.submit(wait_for, str(tmp_path / "never"))
            assert waiting.cancel()
            gate.touch()
            assert [one.result(LONG) for one in held] == [True] * len(held)
            with pytest.raises(CancelledError):
                waiting.result(LONG)
            (tmp_path / "never").touch()  # a worker that came late may have begun it

    def test_ctrl_c_cancels_what_runs_and_what_waits(
        self, opened: Callable[[], Executor], tmp_path: Path
    ) -> None:
        started = tmp_path / "started"
        begun = time.monotonic()

        def press() -> None:
            _until(started.exists)
            signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt), opened() as executor:  # noqa: PT012
            running = executor.submit(announce_and_wait, str(started), str(tmp_path / "gone"))
            waiting = [executor.submit(wait_for, str(tmp_path / "gone")) for _ in range(8)]
            threading.Thread(target=press, daemon=True).start()
            while not running.done():
                time.sleep(0.01)
        assert time.monotonic() - begun < LONG
        assert all(one.cancelled() for one in waiting)
        gone = tmp_path / "gone"
        gone.touch()  # a cluster's worker finishes what it runs; what waited never begins
        with opened() as executor:
            free = [
                executor.submit(wait_for, str(gone)) for _ in range(executor.capabilities.workers)
            ]
            assert [one.result(LONG) for one in free] == [True] * len(free)

    def test_nothing_is_left_running(self, opened: Callable[[], Executor]) -> None:
        before = _children()
        with opened() as executor:
            assert executor.submit(operator.add, 1, 1).result(LONG) == 2
        _until(lambda: _children() <= before)

    def test_shutting_down_twice_is_harmless(self, opened: Callable[[], Executor]) -> None:
        executor = opened()
        executor.shutdown()
        executor.shutdown()


# ---------------------------------------------------------------- what the tasks do


class _Stuck(Exception):
    """Cannot be pickled."""

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("it cannot be pickled")


def refuse(what: str) -> None:
    raise BadRecipe(what, why="a rank is at least 1", fix="--rank 1")


def fail_unpicklably(text: str) -> None:
    raise _Stuck(text)


def die_once(marks: str, number: int) -> int:
    """Kill the worker the first time; the second time, the result."""
    folder = Path(marks)
    try:
        (folder / "begun").touch(exist_ok=False)
    except FileExistsError:
        (folder / "begun again").touch()
        return number + 1
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def wait_for(path: str) -> bool:
    """Return whether a file appeared: at once then, when its folder is gone, or give up after a minute.

    A cluster's worker may come to a task after the test that cancelled it has ended.
    """
    file = Path(path)
    _until(lambda: file.exists() or not file.parent.exists())
    return file.exists()


def announce_and_wait(mine: str, path: str) -> bool:
    """Write this worker's pid into a file that appears whole, then wait."""
    part = Path(f"{mine}.part")
    part.write_text(str(os.getpid()))
    part.rename(mine)
    return wait_for(path)


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it did not happen within a minute"
        time.sleep(0.01)


def _children() -> set[int]:
    """The processes that this one started itself, without the tracker that Python keeps."""
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE and not _is_tracker(child):
                found.add(child.pid)
    return found


def _is_tracker(process: psutil.Process) -> bool:
    return "resource_tracker" in " ".join(process.cmdline())
