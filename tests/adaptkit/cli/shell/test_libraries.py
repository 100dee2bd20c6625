"""A command's stderr is its own: libraries do not remark there on themselves, and their errors still show."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from adaptkit.cli.shell.libraries import QUIET, quiet_libraries

IMPORT = """
import sys
from contextlib import nullcontext
from adaptkit.cli.shell.libraries import quiet_libraries
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


@pytest.mark.soak  # two processes that import torch and PEFT
def test_importing_peft_says_nothing_on_stderr():
    pytest.importorskip("bitsandbytes", reason="pip install 'adaptkit-peft[qlora]'")
    assert "gemm_4bit" not in imported("quiet")
    said = imported("as it is")
    if (
        said
    ):  # only CPUs with AVX-512 BF16 get the remark: there the logger must be the one that is named
        assert "gemm_4bit" in said
