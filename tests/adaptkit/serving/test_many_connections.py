"""Ten thousand connections at once to a server that is a process of its own, none of which ever ends its request."""

from __future__ import annotations

import resource
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from adaptkit_server import adaptkit_server

from adaptkit import Workspace
from adaptkit.serving.api.listen import raise_open_files

WANTED, SPARE = 10_000, 300  # connections; files that both processes have open besides
SENT = (
    b"",  # connected, and silent
    b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Half",  # stops within its headers
    b'POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"model": ',  # and in its body
)
LARGEST_GROWTH = 40 << 10  # bytes a connection
ASKED = {"model": "naval", "prompt": "hull 90%", "max_tokens": 4, "temperature": 0}


@pytest.fixture
def few_open_files():
    """The few open files that a shell gives a process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[0]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def resident(process):
    """Bytes of memory that a process holds."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


@pytest.mark.soak
def test_ten_thousand_unfinished_requests_keep_nobody_out_and_end_with_the_server(
    fleet, served_base, few_open_files, tmp_path, capsys
):
    with Workspace.init(tmp_path / "home", notify=lambda _: None) as ws:
        ws.add(fleet.adapters["naval"], "naval", base=str(served_base))
    home = tmp_path / "home" / ".adaptkit"
    log = tmp_path / "log"
    with (
        adaptkit_server(home, served_base, "--drain", "2", log=log) as server,
        ExitStack() as stack,
    ):

        def ask():
            made = httpx.post(f"{server.url}/v1/completions", json=ASKED, timeout=60)
            assert made.status_code == 200, made.text
            return made.json()["choices"]

        alone, before = ask(), resident(server.process)
        count = min(WANTED, raise_open_files() - SPARE)  # ours; the server has raised its own
        host, port = server.url.removeprefix("http://").split(":")
        opened = []
        for number in range(count):
            one = stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
            one.sendall(SENT[number % len(SENT)])
            opened.append(one)
            if number % (count // 20) == 0:
                assert ask() == alone
        assert ask() == alone
        growth = resident(server.process) - before
        assert growth < count * LARGEST_GROWTH
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
        for one in opened:  # the server has closed each of them
            with suppress(ConnectionResetError):
                while one.recv(4096):
                    pass
    assert "Traceback" not in log.read_text()
    with capsys.disabled():
        print(f"\n{count:,} connections, {growth / count / 1024:.1f} KiB each")
