"""adaptkit.cli.shell.signals: a command ends within two seconds of a signal, whatever its threads wait for."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

# A shell that runs the tests in the background has Ctrl-C ignored.
_PULL = (
    "import signal, sys; from adaptkit.cli import main; "
    "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main(sys.argv[1:]))"
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_pull_from_a_silent_server_ends_within_two_seconds_of_a_signal(number, code, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"oci://127.0.0.1:{silent.getsockname()[1]}/fleet/naval"
        process = subprocess.Popen(
            [sys.executable, "-c", _PULL, "mirror", url, (tmp_path / "to").as_uri()],
            env=os.environ | {"ADAPTKIT_HOME": str(tmp_path / "home")},
            stderr=subprocess.PIPE,
        )
        connection, _ = silent.accept()  # now a thread of its pool waits for a response
        with connection:
            connection.recv(10)
            process.send_signal(number)
            begun = time.monotonic()
            _, shown = process.communicate(timeout=60)
    assert process.returncode == code
    assert time.monotonic() - begun < 2.0
    assert b"interrupted; what was finished is kept" in shown
    assert not list((tmp_path / "home").glob("tmp/.adaptkit-*"))


_TAKEN_OVER = """
import os, signal, sys, threading
from adaptkit.cli.shell import signals

signals.PATIENCE = 0.05
held, asked = signals.Signals(), []
signal.signal(signal.SIGINT, lambda *_: asked.append(1))  # as a trainer does, to finish its step
signal.signal(signal.SIGWINCH, lambda *_: None)
os.kill(os.getpid(), signal.SIGINT)
threading.Event().wait(0.1)
os.kill(os.getpid(), signal.SIGWINCH)  # another signal in between ends nothing
threading.Event().wait(0.5)
assert asked == [1]
print("the step is finished", flush=True)
if sys.argv[1] == "twice":
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(30)
"""


@pytest.mark.parametrize(("times", "code"), [("once", 0), ("twice", 130)])
def test_code_that_takes_a_signal_over_has_time_until_the_second_one(times, code):
    done = subprocess.run(
        [sys.executable, "-c", _TAKEN_OVER, times], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (code, "the step is finished\n"), done.stderr


_IN_DESTRUCTOR = """
import os, signal, sys, threading
from adaptkit.cli.shell.signals import Signals

signal.signal(signal.SIGINT, signal.default_int_handler)
held = Signals()

class Freed:
    def __del__(self):
        os.kill(os.getpid(), signal.{0})
        return None

try:
    Freed()
    threading.Event().wait(1.0)
except KeyboardInterrupt:
    sys.exit(143 if held.to_end else 130)
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_comes_in_a_destructor_of_a_library_is_neither_lost_nor_printed(name, code):
    """Python calls that an exception it ignores, with a traceback."""
    line = [sys.executable, "-c", _IN_DESTRUCTOR.format(name)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
