"""The `local` executor: the conformance class, and what is its own."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import psutil
import pytest

from adaptkit.errors import ExecutorError
from adaptkit.extend.executor import TaskNeeds
from adaptkit.io.machine.collection import LOADED
from adaptkit.testing import ExecutorConformance
from adaptkit.testing.executors import LONG
from adaptkit_plugins.executors.local import Local


class TestLocal(ExecutorConformance):
    @pytest.fixture
    def opened(self):
        return lambda: Local.open("local", workers=2, needs=TaskNeeds())


def test_each_process_has_one_blas_thread():
    with Local(1) as executor:
        found = executor.submit(os.getenv, "OMP_NUM_THREADS").result(LONG)
    assert found == "1"


def test_what_a_process_imports_for_its_first_task_is_not_looked_through_for_garbage():
    with Local(1) as executor:
        found = executor.submit(gc.get_threshold).result(LONG)
    assert found == (LOADED, *gc.get_threshold()[1:])


def test_a_task_that_kills_every_worker_is_given_up_by_name():
    with Local(1) as executor:
        future = executor.submit(os.abort)
        with pytest.raises(ExecutorError) as caught:
            future.result(LONG)
    assert caught.value.what == "posix:abort was given up"
    assert "3 workers died while it ran" in caught.value.why


def test_an_address_is_refused():
    with pytest.raises(ExecutorError, match="local is this machine"):
        Local.open("local://10.0.0.1", workers=None, needs=TaskNeeds())


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    code = (
        "import os, time\n"
        "from adaptkit_plugins.executors.local import Local\n"
        "if __name__ == '__main__':\n"
        "    executor = Local(1)\n"
        "    print(executor.submit(os.getpid).result(60), flush=True)\n"
        "    time.sleep(600)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    worker = psutil.Process(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    worker.wait(timeout=LONG)
    assert not worker.is_running()
