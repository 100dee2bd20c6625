"""adaptkit.cli.shell.signals: a command ends within two seconds of a signal, whatever its threads wait for."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

_PULL = "import sys; from adaptkit.cli import main; sys.exit(main(sys.argv[1:]))"


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
    assert b"interrupted; completed steps were kept" in shown
    assert not list((tmp_path / "home").glob("tmp/.adaptkit-*"))
