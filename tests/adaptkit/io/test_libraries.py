"""A command's stderr is its own: libraries do not remark there on themselves, and their errors still show."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from adaptkit.extend.executor import Call, Outcome
from adaptkit.io.machine.libraries import QUIET, quiet_libraries

IMPORT = """
import sys
from contextlib import nullcontext
from adaptkit.io.machine.libraries import quiet_libraries
with quiet_libraries() if sys.argv[1] == "quiet" else nullcontext():
    import peft
"""


def imported(how):
    return subprocess.run(
        [sys.executable, "-c", IMPORT, how], capture_output=True, text=True, check=True
    ).stderr


@pytest.mark.parametrize("name", QUIET)
def test_a_remark_of_a_quiet_library_is_dropped_and_its_errors_are_shown(name, caplog):
    logger = logging.getLogger(name)
    with quiet_libraries():
        logger.warning("about myself")
        logger.error("broken")
    logger.warning("afterwards")
    assert [record.message for record in caplog.records] == ["broken", "afterwards"]


def test_a_library_is_quiet_until_the_last_of_two_threads_has_left(caplog):
    name = next(iter(QUIET))
    logger = logging.getLogger(name)
    first, second = quiet_libraries(), quiet_libraries()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    logger.warning("one is inside")
    second.__exit__(None, None, None)
    logger.warning("both have left")
    assert [record.message for record in caplog.records] == ["both have left"]


def remark() -> bool:
    """As a library that is imported by a task: whether its remark is shown."""
    logger = logging.getLogger(next(iter(QUIET)))
    record = logger.makeRecord(logger.name, logging.WARNING, __file__, 1, "myself", (), None)
    return bool(logger.filter(record))


def test_a_library_is_quiet_while_a_worker_does_a_task():
    assert Call.of(remark, ()).run() == Outcome(value=False)
    assert remark()


@pytest.mark.soak  # two processes that import torch and PEFT
def test_importing_peft_says_nothing_on_stderr():
    pytest.importorskip("bitsandbytes", reason="pip install 'adaptkit-peft[qlora]'")
    assert "gemm_4bit" not in imported("quiet")
    said = imported("as it is")
    if (
        said
    ):  # only CPUs with AVX-512 BF16 get the remark: there the logger must be the one that is named
        assert "gemm_4bit" in said
