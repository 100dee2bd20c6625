"""A command's stderr is its own: libraries do not remark there on themselves, and their errors still show."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import warnings

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


<<<<<<< HEAD:tests/adaptkit/io/test_libraries.py
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
    return logging.getLogger(next(iter(QUIET))).isEnabledFor(logging.WARNING)


def test_a_library_is_quiet_while_a_worker_does_a_task():
    assert Call.of(remark, ()).run() == Outcome(value=False)
    assert remark()
=======
HOSTILE = "\x1b]0;pwned\x07\u202e 100% \x9b2J"
SHOWN = r"\x1b]0;pwned\x07\u202e 100% \x9b2J"


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (HOSTILE, ()),
        ("the server says %s", (HOSTILE,)),
        ("the server says %s", (ValueError(HOSTILE),)),
        ("the server says %(what)s", ({"what": HOSTILE},)),
    ],
)
def test_what_a_library_logs_does_not_act_on_a_terminal(message, arguments, caplog):
    with quiet_libraries():
        logging.getLogger("some.library").warning(message, *arguments)
    assert caplog.messages[0].removeprefix("the server says ") == SHOWN


def test_a_message_without_harm_keeps_its_arguments(caplog):
    with quiet_libraries():
        logging.getLogger("uvicorn.access").warning('"%s %s" %d', "GET", "/v1/models", 200)
    assert caplog.messages == ['"GET /v1/models" 200']
    assert caplog.records[0].args == ("GET", "/v1/models", 200)


def test_what_a_library_warns_of_does_not_act_on_a_terminal():
    with quiet_libraries():
        text = warnings.formatwarning(UserWarning(HOSTILE), UserWarning, "a.py", 1, line=HOSTILE)
    assert "\x1b" not in text
    assert f"UserWarning: {SHOWN}\n" in text


def test_a_thread_of_a_library_that_breaks_is_named_in_one_line(capsys):
    def broken():
        raise ValueError(HOSTILE)

    with quiet_libraries():
        thread = threading.Thread(target=broken, name="uploader")
        thread.start()
        thread.join()
    assert capsys.readouterr().err == f"warning: uploader broke: ValueError: {SHOWN}\n"
>>>>>>> trust11:tests/adaptkit/cli/shell/test_libraries.py


@pytest.mark.soak  # two processes that import torch and PEFT
def test_importing_peft_says_nothing_on_stderr():
    pytest.importorskip("bitsandbytes", reason="pip install 'adaptkit-peft[qlora]'")
    assert "gemm_4bit" not in imported("quiet")
    said = imported("as it is")
    if (
        said
    ):  # only CPUs with AVX-512 BF16 get the remark: there the logger must be the one that is named
        assert "gemm_4bit" in said
