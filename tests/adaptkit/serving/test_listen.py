"""The address of a server: bound first, and printed as it is."""

from __future__ import annotations

import asyncio
import re
import socket
from threading import Thread
from time import sleep

import httpx
import pytest
from adaptkit_server import adaptkit_server

from adaptkit import Workspace
from adaptkit.errors import Refused
from adaptkit.serving.api.listen import bound, url_of, web_server


@pytest.mark.soak  # every server of test_lifecycle is reached at the port that it printed
def test_port_0_is_printed_as_the_port_that_was_taken(served_base, tmp_path):
    Workspace.init(tmp_path / "home", notify=lambda _: None).close()
    with adaptkit_server(
        tmp_path / "home" / ".adaptkit", served_base, log=tmp_path / "log"
    ) as server:
        found = re.fullmatch(r"http://127\.0\.0\.1:([0-9]+)", server.url)
        assert found
        assert int(found[1]) > 0
        assert httpx.get(f"{server.url}/healthz", timeout=60).json()["status"] == "ok"


def test_a_port_in_use_is_refused_before_the_model_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(
                Refused,
                match=rf"cannot listen on 127\.0\.0\.1, port {port}: Address already in use(?s:.*)"
                r"--port 0 for a free one",
            ),
            bound("127.0.0.1", port),
        ):
            pass


def test_an_address_that_is_not_of_this_machine_is_refused():
    with (
        pytest.raises(Refused, match=r"cannot listen on 192\.0\.2\.1, port 0"),
        bound("192.0.2.1", 0),
    ):
        pass


def test_the_url_of_an_ipv6_address_has_brackets():
    try:
        with bound("::1", 0) as listener:
            assert re.fullmatch(r"http://\[::1\]:[1-9][0-9]*", url_of(listener))
    except Refused:
        pytest.skip("this machine has no IPv6")


async def never(scope, receive, send):
    """An application that answers no request."""
    if scope["type"] == "http":
        await asyncio.Event().wait()


def test_requests_that_the_end_of_a_server_cancels_are_one_line_in_the_log(caplog):
    with bound("127.0.0.1", 0) as listener:
        server = web_server(never, listener, drain=1)
        running = Thread(target=server.run, kwargs={"sockets": [listener]})
        running.start()
        with socket.create_connection(listener.getsockname(), timeout=60) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while not server.server_state.tasks:
                sleep(0.01)
            server.should_exit = True
            running.join(60)
    assert not running.is_alive()
    assert "Cancel 1 running task(s)" in caplog.text
    assert "Traceback" not in caplog.text
